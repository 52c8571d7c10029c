"""Scores and losses against plain numpy, in float64, with gradients against differences."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from m3core.train.losses import Targets, cosent, distilled, distilled_in_turn, info_nce, unified
from m3core.train.scores import SCORES, Embedded

FLOATS = np.ndarray
MODES = ("dense", "sparse", "multivector")


def embedded(lengths: list[int], seed: int, width: int = 6) -> Embedded:
    rng = np.random.default_rng(seed)
    ids = rng.integers(4, 15, sum(lengths))  # many in common, and several times in a text
    weights = np.maximum(rng.normal(size=len(ids)), 0)
    starts = np.cumsum(lengths) - lengths
    ends = np.cumsum(lengths) - 1
    ids[starts], ids[ends] = 0, 2
    weights[starts] = weights[ends] = 0

    def unit(rows: int) -> torch.Tensor:
        drawn = rng.normal(size=(rows, width))
        return torch.tensor(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), requires_grad=True)

    return Embedded(
        torch.tensor(ids),
        tuple(lengths),
        unit(len(lengths)),
        torch.tensor(weights, requires_grad=True),
        unit(len(ids) - len(lengths)),
    )


QUERIES, PASSAGES = [4, 2, 7], [9, 5, 3, 12, 6, 2]


def parts(values: FLOATS, lengths: list[int]) -> list[FLOATS]:
    return np.split(values, np.cumsum(lengths)[:-1])


def reference_scores(mode: str, queries: Embedded, passages: Embedded) -> FLOATS:
    def texts(of: Embedded) -> list:
        lengths = list(of.lengths)
        if mode == "dense":
            return list(of.dense.detach().numpy())
        if mode == "multivector":
            return parts(of.rows.detach().numpy(), [n - 1 for n in lengths])
        best: list[dict[int, float]] = []
        for ids, weights in zip(
            parts(of.token_ids.numpy(), lengths), parts(of.weights.detach().numpy(), lengths), strict=True
        ):
            best.append({})
            for i, weight in zip(ids, weights, strict=True):
                best[-1][i] = max(best[-1].get(i, 0), weight)
        return best

    def score(query, passage) -> float:
        if mode == "dense":
            return float(query @ passage)
        if mode == "multivector":
            return float((query @ passage.T).max(1).mean())
        return sum(weight * passage.get(i, 0) for i, weight in query.items())

    return np.array([[score(q, p) for p in texts(passages)] for q in texts(queries)])


@pytest.mark.parametrize("mode", MODES)
def test_scores_are_those_of_plain_loops(mode: str) -> None:
    queries, passages = embedded(QUERIES, 0), embedded(PASSAGES, 1)
    scores = SCORES[mode](queries, passages)
    np.testing.assert_allclose(scores.detach().numpy(), reference_scores(mode, queries, passages), atol=1e-12)


def test_texts_without_a_common_token_score_nothing() -> None:
    queries, passages = embedded([3], 0), embedded([5, 4], 1)
    passages.token_ids.add_(100)
    assert SCORES["sparse"](queries, passages).tolist() == [[0, 0]]


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_scores_are_those_of_differences(mode: str) -> None:
    queries, passages = embedded(QUERIES, 2), embedded(PASSAGES, 3)
    name = {"dense": "dense", "sparse": "weights", "multivector": "rows"}[mode]
    leaves = tuple(getattr(of, name).detach().clone().requires_grad_() for of in (queries, passages))
    if mode == "sparse":  # away from 0, where the largest of several would be any of them
        leaves = tuple((leaf + torch.linspace(0.1, 0.2, len(leaf))).detach().requires_grad_() for leaf in leaves)

    def scores(query: torch.Tensor, passage: torch.Tensor) -> torch.Tensor:
        return SCORES[mode](
            Embedded(queries.token_ids, queries.lengths, **{name: query}),
            Embedded(passages.token_ids, passages.lengths, **{name: passage}),
        )

    assert torch.autograd.gradcheck(scores, leaves)


def log_softmax(scores: FLOATS) -> FLOATS:
    return scores - scores.max(1, keepdims=True) - np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1))[:, None]


def drawn(*shape: int, seed: int = 0) -> FLOATS:
    return np.random.default_rng(seed).normal(size=shape)


POSITIVES = np.array([0, 2, 4])
ALLOWED = np.array([[1, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1]], bool)


def reference_nce(scores: FLOATS, allowed: FLOATS | None = None) -> float:
    scores = scores / 0.02 if allowed is None else np.where(allowed, scores / 0.02, -1e300)
    return float(-log_softmax(scores)[np.arange(len(scores)), POSITIVES].mean())


def same(loss: torch.Tensor, expected: float) -> None:
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("allowed", [None, ALLOWED], ids=["all", "some"])
def test_info_nce(allowed: FLOATS | None) -> None:
    scores = drawn(3, 6)
    mask = None if allowed is None else torch.tensor(allowed)
    same(info_nce(torch.tensor(scores), torch.tensor(POSITIVES), allowed=mask), reference_nce(scores, allowed))


def test_a_teacher_of_the_own_passages() -> None:
    scores, teacher = drawn(3, 4), drawn(3, 4, seed=1)
    target = np.exp(log_softmax(teacher))
    expected = -(target * log_softmax(scores / 0.02)).sum(1).mean()
    same(distilled(torch.tensor(scores), torch.tensor(teacher)), expected)


def test_a_teacher_in_turn() -> None:
    scores, teacher = drawn(3, 6), drawn(3, 2, seed=1)
    own = np.array([[0, 1], [2, 3], [4, 5]])
    shares, expected = np.exp(log_softmax(teacher)), 0.0
    for query in range(3):
        left = list(range(6))
        for turn in range(2):
            logits = {p: scores[query, p] / 0.02 for p in left}
            top = max(logits.values())
            loss = top + np.log(sum(np.exp(v - top) for v in logits.values())) - logits[own[query, turn]]
            expected += shares[query, turn] * loss / 3
            left.remove(own[query, turn])
    same(distilled_in_turn(torch.tensor(scores), torch.tensor(teacher), torch.tensor(own)), expected)


def test_cosent() -> None:
    scores, labels = drawn(7), np.array([3, 1, 2, 2, 5, 0, 1])
    terms = [np.exp(20 * (scores[j] - scores[i])) for i in range(7) for j in range(7) if labels[i] > labels[j]]
    same(cosent(torch.tensor(scores), torch.tensor(labels)), float(np.log1p(sum(terms))))
    same(cosent(torch.tensor(scores), torch.zeros(7)), 0.0)  # nothing to put in order


@pytest.mark.parametrize("allowed", [None, ALLOWED], ids=["all", "some"])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("modes", [MODES, ("dense", "sparse"), ("dense",)])
def test_the_unified_loss(modes: tuple[str, ...], learns: bool, allowed: FLOATS | None) -> None:
    scores = {mode: drawn(3, 6, seed=n) for n, mode in enumerate(modes)}
    ensemble = sum({"sparse": 0.3}.get(mode, 1.0) * s for mode, s in scores.items())
    weights = {mode: 0.1 if mode == "sparse" else 1.0 for mode in modes}
    expected = sum(weights[mode] * reference_nce(s, allowed) for mode, s in scores.items())
    if len(modes) > 1:
        expected = (expected + reference_nce(ensemble, allowed)) / (len(modes) + 1)
    if learns and len(modes) > 1:

        def masked(s: FLOATS) -> FLOATS:
            return s / 0.02 if allowed is None else np.where(allowed, s / 0.02, -1e4)

        target = np.exp(log_softmax(masked(ensemble)))
        own = [-weights[mode] * (target * log_softmax(masked(s))).sum(1).mean() for mode, s in scores.items()]
        expected = (expected + sum(own) / len(modes)) / 2
    made = unified(
        {mode: torch.tensor(s) for mode, s in scores.items()},
        Targets(torch.tensor(POSITIVES)[:, None], None if allowed is None else torch.tensor(allowed)),
        self_distillation=learns,
    )
    same(made.total, expected)


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_teacher_teaches_every_mode_and_the_ensemble(in_turn: bool) -> None:
    scores = {mode: torch.tensor(drawn(3, 6, seed=n)) for n, mode in enumerate(MODES)}
    targets = Targets(torch.tensor([[0, 1], [2, 3], [4, 5]]), None, torch.tensor(drawn(3, 2, seed=9)), in_turn)
    made = unified(scores, targets).parts
    for mode, own in scores.items():
        alone = (
            distilled_in_turn(own, targets.teacher, targets.own)
            if in_turn
            else info_nce(own, targets.own[:, 0]) + distilled(own.gather(1, targets.own), targets.teacher)
        )
        same(made[mode], alone.item())
    assert made["ensemble"].item() != made["dense"].item()


def test_no_gradient_reaches_the_ensemble_that_is_learned_from() -> None:
    """Nor is any of it NaN where passages are left out."""

    def gradient(loss: Callable[[dict], torch.Tensor]) -> torch.Tensor:
        scores = {mode: torch.tensor(drawn(3, 6, seed=n), requires_grad=True) for n, mode in enumerate(MODES)}
        loss(scores).backward()
        return torch.stack([s.grad for s in scores.values()])

    def learned(scores: dict) -> torch.Tensor:
        targets = Targets(torch.tensor(POSITIVES)[:, None], torch.tensor(ALLOWED))
        return unified(scores, targets, self_distillation=True).parts["self-distillation"]

    made = gradient(learned)
    assert torch.isfinite(made).all()
    assert not made[:, ~torch.tensor(ALLOWED)].any()
    assert torch.allclose(made.sum(-1), torch.zeros(3, 3, dtype=torch.float64), atol=1e-9)
