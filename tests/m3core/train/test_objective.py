"""What a batch is trained for: widths, pairs, and scores that are made block by block."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from m3core.tokenizer import TextCounts
from m3core.train import scores as scores_module
from m3core.train.collating import Batch
from m3core.train.losses import Targets, cosent, unified
from m3core.train.objective import Objective
from m3core.train.scores import SCORES, Embedded, multivector_scores

MODES = ("dense", "sparse", "multivector")


def embedded(seed: int, lengths: tuple[int, ...]) -> Embedded:
    draw = torch.Generator().manual_seed(seed)
    tokens = sum(lengths)
    return Embedded(
        torch.randint(4, 20, (tokens,), generator=draw),
        lengths,
        normalize(torch.randn(len(lengths), 8, generator=draw), dim=-1).requires_grad_(),
        torch.rand(tokens, generator=draw).requires_grad_(),
        normalize(torch.randn(tokens - len(lengths), 8, generator=draw), dim=-1).requires_grad_(),
    )


def batch(own: list[int], passages: int, labels: list[float] | None = None) -> Batch:
    allowed = np.ones((len(own), passages), bool)
    scores = None if labels is None else np.array(labels, np.float32)
    return Batch([], [], np.array(own)[:, None], allowed, None, scores, TextCounts())


def narrowed(texts: Embedded, width: int) -> dict[str, torch.Tensor]:
    return {"dense": normalize(texts.dense[:, :width], dim=-1), "rows": normalize(texts.rows[:, :width], dim=-1)}


def test_matryoshka_is_the_mean_over_widths() -> None:
    queries, passages = embedded(0, (3, 4)), embedded(1, (5, 2, 6))
    made = Objective(MODES, 0.1, 0, matryoshka=(8, 3)).losses(queries, passages, batch([2, 0], 3), 0)
    expected = []
    for width in (8, 3):
        cut = [Embedded(t.token_ids, t.lengths, weights=t.weights, **narrowed(t, width)) for t in (queries, passages)]
        scores = {mode: SCORES[mode](*cut) for mode in MODES}
        expected.append(unified(scores, Targets(torch.tensor([[2], [0]])), temperature=0.1, self_distillation=True))
    assert made.total.item() == pytest.approx(sum(e.total.item() for e in expected) / 2, abs=1e-6)
    assert made.parts["dense"].item() == pytest.approx(sum(e.parts["dense"].item() for e in expected) / 2, abs=1e-6)


def test_scored_pairs_are_trained_by_the_scores_of_each_pair() -> None:
    texts, others = embedded(0, (3, 4, 2)), embedded(1, (5, 2, 6))
    labels = [0.0, 2.0, 1.0]
    made = Objective(("dense",), 0.1).losses(texts, others, batch([], 0, labels), 0)
    expected = cosent((texts.dense * others.dense).sum(1), torch.tensor(labels))
    assert made.total.item() == pytest.approx(expected.item(), abs=1e-6)
    every = Objective(MODES, 0.1).losses(texts, others, batch([], 0, labels), 0)
    assert set(every.parts) == {*MODES, "ensemble"}


def test_products_of_rows_are_made_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, passages = embedded(0, (9, 4)), embedded(1, (5, 2, 6, 30, 3))
    whole = multivector_scores(queries, passages)
    upstream = torch.randn(whole.shape, generator=torch.Generator().manual_seed(2))
    expected = torch.autograd.grad(whole, (queries.rows, passages.rows), upstream)
    monkeypatch.setattr(scores_module, "_PRODUCTS", 60)
    parts = multivector_scores(queries, passages)
    torch.testing.assert_close(parts, whole)
    for found, gradient in zip(
        torch.autograd.grad(parts, (queries.rows, passages.rows), upstream), expected, strict=True
    ):
        torch.testing.assert_close(found, gradient)
