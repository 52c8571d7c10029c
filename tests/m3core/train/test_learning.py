"""Training on a small real set, the debate corpus, improves what was held out by more than chance would."""

import re
from pathlib import Path

import pytest
import torch
from tiny import save_bert

from m3core import M3Encoder
from m3core.evaluation import JudgedSet, Report, bootstrap_interval, evaluate, load_beir
from m3core.evaluation.beir import Passages
from m3core.train import FineTuner


@pytest.fixture
def judged(debate: Path) -> JudgedSet:
    return load_beir(debate)


def measured(model: str | Path, judged: JudgedSet) -> Report:
    encoder = M3Encoder(model, dtype="float32", device="cpu")
    return evaluate(encoder, judged, bm25=False, metrics=["nDCG@10"])


def gain(before: Report, after: Report, system: str) -> tuple[float, float]:
    """The paired bootstrap interval."""
    scores = [report.values[system]["nDCG@10"] for report in (before, after)]
    low, high = bootstrap_interval(scores[1] - scores[0])
    print(f"{system}: {before.mean(system):.3f} to {after.mean(system):.3f}, gain {low:+.3f} to {high:+.3f}")
    return low, high


@pytest.mark.slow
def test_the_bundled_model_learns_from_half_of_the_queries(judged: JudgedSet, tmp_path: Path) -> None:
    texts = dict(zip(judged.corpus.ids, judged.corpus.texts, strict=True))
    halves = [range(start, len(judged.queries.ids), 2) for start in (0, 1)]
    held_out = [
        JudgedSet(
            judged.name, judged.corpus, Passages(*([own[i] for i in half] for own in columns(judged))), judged.qrels
        )
        for half in halves
    ][1]
    trained = [
        {
            "query": judged.queries.texts[i],
            "pos": [texts[p] for p, grade in judged.qrels[judged.queries.ids[i]].items() if grade > 0],
        }
        for i in halves[0]
    ]
    before = measured("m3-mini", held_out)
    tuner = FineTuner.from_pretrained("m3-mini", dataset=trained, dev=False, show_progress=False)
    tuned = tuner.run(output=tmp_path, epochs=10, batch_size=44, show_progress=False)
    after = measured(tuned.directory, held_out)
    for system in ("multivector", "hybrid"):
        assert gain(before, after, system)[0] > 0.01
    assert after.mean("dense") > before.mean("dense")


def columns(judged: JudgedSet) -> tuple[list, list, list]:
    return judged.queries.ids, judged.queries.texts, judged.queries.metadata


@pytest.mark.slow
def test_a_dense_model_from_scratch_learns_from_passages_alone(judged: JudgedSet, tmp_path: Path) -> None:
    """Each sentence is to find the rest of its passage; no query of the judged set is seen."""
    model = character_bert(judged.corpus.texts, tmp_path / "model")
    records = []
    for text in judged.corpus.texts:
        sentences = [sentence for sentence in re.split(r"(?<=[。！？；.!?])", text) if len(sentence) > 6]
        for i, sentence in enumerate(sentences):
            if rest := "".join(sentences[:i] + sentences[i + 1 :]):
                records.append({"query": sentence, "pos": [rest]})
    before = measured(model, judged)
    tuner = FineTuner.from_pretrained(model, dataset=records, dev=False, dtype="float32", show_progress=False)
    tuned = tuner.run(output=tmp_path / "run", epochs=5, learning_rate=1e-3, show_progress=False)
    assert gain(before, measured(tuned.directory, judged), "dense")[0] > 0.05


def character_bert(texts: list[str], folder: Path) -> Path:
    """A random BERT of m3e's kind, mean pooling, whose vocabulary is the characters of some texts."""
    torch.manual_seed(0)
    characters = sorted({c for text in texts for c in text.lower() if not c.isspace()})
    save_bert(folder, [*characters, *(f"##{c}" for c in characters if c.isascii())], hidden=64)
    (folder / "m3.json").write_text('{"pooling": "mean", "normalize": false}')
    return folder
