"""Fine-tunes the bundled model on half of the debate corpus' questions, and finds answers to the others with it.

Takes some minutes on two cores. `--plot curves.png` draws the learning curves.
"""

import argparse
from pathlib import Path
from tempfile import mkdtemp

from langchain_m3 import M3Retriever
from m3core.evaluation import JudgedSet, load_beir
from m3core.evaluation.beir import Passages
from m3core.train import FineTuned, FineTuner

DEBATE = load_beir(Path(__file__).parent / "data" / "debate")
TEXTS = dict(zip(DEBATE.corpus.ids, DEBATE.corpus.texts, strict=True))


def main() -> None:
    """Trains, measures, and retrieves before and after."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--plot", type=Path, help="an image file")
    arguments = parser.parse_args()
    trained, held_out = (range(start, len(DEBATE.queries.ids), 2) for start in (0, 1))
    records = [{"query": DEBATE.queries.texts[i], "pos": answers(i)} for i in trained]
    queries = [
        [column[i] for i in held_out] for column in (DEBATE.queries.ids, DEBATE.queries.texts, DEBATE.queries.metadata)
    ]
    dev = JudgedSet("debate", DEBATE.corpus, Passages(*queries), DEBATE.qrels)

    tuner = FineTuner.from_pretrained("m3-mini", dataset=records, dev=dev)
    tuned = tuner.run(epochs=arguments.epochs, batch_size=44, output=mkdtemp(prefix="m3-tuned-"), early_stopping=None)

    print(f"\nnDCG@10 of {len(held_out)} questions that were not trained with")
    for name, after in tuned.after.items():
        print(f"  {name:20} {tuned.before[name]:.3f} → {after:.3f}")
    before, after = (M3Retriever.from_texts(list(TEXTS.values()), encoder=m) for m in ("m3-mini", tuned.directory))
    for i in held_out[:6]:
        print(f"\n{DEBATE.queries.texts[i]}")
        for name, retriever in (("before", before), ("after", after)):
            found = [document.page_content for document in retriever.invoke(DEBATE.queries.texts[i], k=10)]
            rank = next((rank for rank, text in enumerate(found, start=1) if text in answers(i)), None)
            print(f"  {name:6} the answer is {f'at rank {rank}' if rank else 'not among ten'}; first: {found[0][:40]}…")
    if arguments.plot:
        draw(tuned, arguments.plot)


def answers(i: int) -> list[str]:
    """The passages that answer a question."""
    return [TEXTS[passage] for passage, grade in DEBATE.qrels[DEBATE.queries.ids[i]].items() if grade > 0]


def draw(tuned: FineTuned, path: Path) -> None:
    """Losses and measures by step."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, prefix, title in ((axes[0], "loss", "loss of a batch"), (axes[1], "eval_", "nDCG@10, held out")):
        names = dict.fromkeys(name for entry in tuned.history for name in entry if name.startswith(prefix))
        for name in names:
            points = [(entry["step"], entry[name]) for entry in tuned.history if name in entry]
            label = (
                name.removeprefix("loss_").removeprefix("eval_").replace("_ndcg@10", "").replace("ndcg@10", "hybrid")
            )
            axis.plot(*zip(*points, strict=True), marker=".", label=label)
        axis.set(title=title, xlabel="step")
        axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
