"""The mini's heads, and the layer norms and biases of its body: trained by `FineTuner`. Matrices stay as they are."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m3core.encoder import M3Encoder
from m3core.evaluation import WeightFit, evaluate, fit_weights
from m3core.mini.build.texts import Pair
from m3core.train import FineTuner
from m3core.train.measuring import judged_by
from m3core.train.records import Example

_MONOLINGUAL = ("zh", "en")
_MOST = 4500  # of a kind, so that none outweighs the others
_LONGEST = 128  # tokens
_TOKENS = 1 << 16  # at once: a whole batch

Datasets = dict[str, list[dict[str, Any]]]


def train(body: Path, pairs: Sequence[Pair], sentences: Sequence[Pair], output: Path) -> Path:
    """Trains, in two runs: dense vectors and multi-vectors with the body, then lexical weights on what it became.

    A lexical weight says nothing of a passage in another language, so the second run has monolingual pairs only, and
    changes nothing else.

    Args:
        body: as `write_body` writes it.
        pairs: headings and their sections, of all kinds.
        sentences: more pairs across languages, from `sentence_pairs`.
        output: a folder for both runs.

    Returns:
        The directory of the trained model.
    """
    kinds = _datasets(pairs) | {f"{kind} sentences": rows for kind, rows in _datasets(sentences).items()}
    kinds = {kind: rows[:_MOST] for kind, rows in kinds.items()}
    both = FineTuner.from_pretrained(
        body,
        dataset=kinds,
        dev=False,
        modes=["dense", "multivector"],
        projection=True,
        freeze="matrices",
        dtype="bfloat16",
    )
    tuned = both.run(
        output=output / "both",
        epochs=0.8,
        batch_size=96,
        max_length=_LONGEST,
        learning_rate=1e-3,
        head_learning_rate=2e-3,
        temperature=0.02,
        anchor=0.03,
        tokens_at_once=_TOKENS,
    )
    sparse = FineTuner.from_pretrained(
        tuned.directory,
        dataset={kind: kinds[kind] for kind in _MONOLINGUAL},
        dev=False,
        modes=["sparse"],
        freeze="backbone",
        dtype="bfloat16",
    )
    return sparse.run(
        output=output / "sparse",
        epochs=4,
        batch_size=128,
        max_length=_LONGEST,
        head_learning_rate=5e-3,
        temperature=0.05,
        tokens_at_once=_TOKENS,
    ).directory


def fit(model: Path, held_out: Sequence[Pair]) -> WeightFit:
    """Weights of the hybrid score, found on pairs that were not trained with, kind by kind."""
    encoder = M3Encoder(model, device="cpu")
    sets = []
    for kind, rows in _datasets(held_out).items():
        judged = judged_by((Example(row["query"], tuple(row["pos"])) for row in rows), kind)
        report = evaluate(encoder, judged, metrics=["nDCG@10"], bm25=False)
        sets.append(report.candidates)
    return fit_weights(sets, encoder.score_weights)


def _datasets(pairs: Sequence[Pair]) -> Datasets:
    """Records by kind, those of a kind in a random order."""
    found: Datasets = {}
    for pair in random.Random(0).sample(pairs, len(pairs)):  # noqa: S311 (no secret)
        found.setdefault(pair.kind, []).append({"query": pair.query, "pos": [pair.passage]})
    return dict(sorted(found.items()))
