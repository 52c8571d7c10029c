"""The mini's heads, and the layer norms and biases of its body: trained by `FineTuner`. Matrices stay as they are."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from m3core.encoder import M3Encoder
from m3core.evaluation import evaluate
from m3core.fusion import Weights
from m3core.mini.build.texts import Pair
from m3core.output import Mode
from m3core.train import FineTuner
from m3core.train.measuring import judged_by
from m3core.train.records import Example

SCORE_WEIGHTS: Weights = (1.0, 0.1, 0.5)
"""Of the hybrid score; the model card says why."""

_MONOLINGUAL = ("zh", "en")
_MOST = 4500  # of a kind, so that none outweighs the others
_OTHERS = 3000  # passages that answer nothing
_ALWAYS: dict[str, Any] = {"max_length": 128, "tokens_at_once": 1 << 16}

Datasets = dict[str, list[dict[str, Any]]]


def train(body: Path, pairs: Sequence[Pair], sentences: Sequence[Pair], output: Path) -> Path:
    """Trains, in three runs.

    First the projection of dense vectors and the multi-vector head alone, so that the body need not bend for what these
    can do (linear probing before fine-tuning, arXiv 2202.10054). Then all but the matrices, for the same two. Then
    lexical weights on what the body became; they say nothing of a passage in another language, so this run has
    monolingual pairs only, and changes nothing else.

    Args:
        body: as `write_body` writes it.
        pairs: headings and their sections, of all kinds.
        sentences: more pairs across languages, from `sentence_pairs`.
        output: a folder for the runs.

    Returns:
        The directory of the trained model.
    """
    kinds = _datasets(pairs) | {f"{kind} sentences": rows for kind, rows in _datasets(sentences).items()}
    kinds = {kind: rows[:_MOST] for kind, rows in kinds.items()}
    kinds["zh again"] = kinds["zh"]  # there are three times as many that cross languages
    both: tuple[Mode, ...] = ("dense", "multivector")
    mixed = {"all": [row for rows in kinds.values() for row in rows]}
    heads = _tuner(body, mixed, modes=both, projection=True, freeze="backbone")
    probed = heads.run(
        output=output / "heads", epochs=1, batch_size=256, head_learning_rate=2e-3, anchor=0.03, **_ALWAYS
    )
    small = _tuner(probed.directory, kinds, modes=both, freeze="matrices")
    tuned = small.run(
        output=output / "small",
        epochs=0.5,
        batch_size=96,
        learning_rate=1e-3,
        head_learning_rate=3e-4,
        anchor=0.03,
        **_ALWAYS,
    )
    monolingual = {kind: kinds[kind] for kind in _MONOLINGUAL}
    sparse = _tuner(tuned.directory, monolingual, modes=["sparse"], freeze="backbone")
    return sparse.run(
        output=output / "sparse", epochs=2, batch_size=128, head_learning_rate=5e-3, temperature=0.05, **_ALWAYS
    ).directory


def weigh(model: Path, held_out: Sequence[Pair], others: Sequence[Pair]) -> dict[Weights, float]:
    """What weights of the hybrid score are worth on pairs that were not trained with: a grid around `SCORE_WEIGHTS`.

    Args:
        model: a directory.
        held_out: whose queries are to find their passages.
        others: whose passages are not to be found; a corpus of few passages tells little.

    Returns:
        nDCG@10 by weights, the mean over kinds of pairs.
    """
    encoder = M3Encoder(model, device="cpu")
    passages = {kind: tuple({p.passage: None for p in others if p.kind[-2:] == kind}) for kind in _MONOLINGUAL}
    sets = []
    for kind, rows in _datasets(held_out).items():
        examples = [Example(row["query"], tuple(row["pos"])) for row in rows]
        examples[0] = replace(examples[0], negatives=passages[kind[-2:]][:_OTHERS])
        sets.append(evaluate(encoder, judged_by(examples, kind), metrics=["nDCG@10"], bm25=False).candidates)
    grid = [(1.0, sparse, multi) for sparse in (0.0, 0.05, 0.1, 0.2) for multi in (0.0, 0.25, 0.5, 1.0, 2.0)]
    return {weights: float(np.mean([one.ndcg(weights).mean() for one in sets])) for weights in grid}


def _tuner(model: Path, dataset: Datasets, **options: Any) -> FineTuner:
    return FineTuner.from_pretrained(model, dataset=dataset, dev=False, device="cpu", dtype="bfloat16", **options)


def _datasets(pairs: Sequence[Pair]) -> Datasets:
    """Records by kind, those of a kind in a random order."""
    found: Datasets = {}
    for pair in random.Random(0).sample(pairs, len(pairs)):  # noqa: S311 (no secret)
        found.setdefault(pair.kind, []).append({"query": pair.query, "pos": [pair.passage]})
    return dict(sorted(found.items()))
