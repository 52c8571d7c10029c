from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3core import (
    DBSF,
    RRF,
    Fingerprint,
    InvalidInput,
    M3Output,
    SparseVector,
    UnsupportedMode,
    WeightedSum,
    compute_score,
    fuse,
    scoring,
)
from m3core.fusion import ranks
from m3core.scoring import lexical_scores, maxsim_scores, mode_scores


def random_output(n: int, seed: int, rows: tuple[int, int] = (0, 6)) -> M3Output:
    rng = np.random.default_rng(seed)
    ids = [np.flatnonzero(rng.random(30) < 0.3) for _ in range(n)]
    return M3Output(
        rng.standard_normal((n, 8)).astype(np.float32),
        [SparseVector(i, rng.random(len(i))) for i in ids],
        [rng.standard_normal((t, 5)).astype(np.float32) for t in rng.integers(*rows, n)],
        (1.0, 0.3, 0.7),
    )


def naive_lexical(q: SparseVector, d: SparseVector) -> float:
    weights = d.as_dict()
    return sum(w * weights.get(i, 0.0) for i, w in q.as_dict().items())


def naive_maxsim(q: np.ndarray, d: np.ndarray) -> float:
    return float(np.mean([max(float(a @ b) for b in d) for a in q])) if len(q) and len(d) else 0.0


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 100))
def test_lexical_and_maxsim_equal_loops_over_pairs(n: int, m: int, seed: int) -> None:
    queries, documents = random_output(n, seed), random_output(m, seed + 1)
    lexical = lexical_scores(queries.sparse, documents.sparse)
    maxsim = maxsim_scores(queries.multivector, documents.multivector)
    assert lexical.shape == maxsim.shape == (n, m)
    for i in range(n):
        for j in range(m):
            assert lexical[i, j] == pytest.approx(naive_lexical(queries.sparse[i], documents.sparse[j]), abs=1e-5)
            expected = naive_maxsim(queries.multivector[i], documents.multivector[j])
            assert maxsim[i, j] == pytest.approx(expected, abs=1e-5)


def test_maxsim_in_blocks_equals_maxsim_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, documents = random_output(20, 0), random_output(30, 1)
    whole = maxsim_scores(queries.multivector, documents.multivector)
    monkeypatch.setattr(scoring, "_BLOCK_TOKENS", 7)
    monkeypatch.setattr(scoring, "_BLOCK_CELLS", 50)
    np.testing.assert_allclose(maxsim_scores(queries.multivector, documents.multivector), whole, atol=1e-6)


def test_the_hybrid_score_is_the_undivided_weighted_sum() -> None:
    queries, documents = random_output(3, 0), random_output(4, 1)
    parts = [mode_scores(queries, documents, mode) for mode in ("dense", "sparse", "multivector")]
    for weights in ((1.0, 0.3, 0.7), (0.2, 0.0, 2.0)):
        expected = sum(w * p for w, p in zip(weights, parts, strict=True))
        np.testing.assert_allclose(queries.score(documents, weights=weights), expected, rtol=1e-5)
    np.testing.assert_array_equal(queries.score(documents), queries.score(documents, weights=(1.0, 0.3, 0.7)))


def test_the_default_score_uses_what_both_sides_have() -> None:
    queries, documents = random_output(2, 0), random_output(2, 1)
    dense_only = M3Output(documents.dense)
    np.testing.assert_allclose(queries.score(dense_only), queries.dense @ dense_only.dense.T, rtol=1e-6)
    with pytest.raises(UnsupportedMode, match="weight was given for sparse"):
        queries.score(dense_only, weights=(1.0, 0.1, 0.0))
    with pytest.raises(UnsupportedMode, match="no mode in common"):
        M3Output(sparse=queries.sparse).score(dense_only)


def test_vectors_of_different_models_are_not_compared() -> None:
    with pytest.raises(InvalidInput, match="8 and 6 wide"):
        random_output(1, 0).score(M3Output(np.zeros((1, 6), np.float32)))


def test_compute_score_divides_by_the_weights() -> None:
    queries, documents = random_output(3, 0, (1, 5)), random_output(3, 1, (1, 5))
    scores = compute_score(queries, documents, weights=(0.4, 0.2, 0.4))
    hybrid = np.diagonal(queries.score(documents, weights=(0.4, 0.2, 0.4)))
    np.testing.assert_allclose(scores["colbert+sparse+dense"], hybrid, rtol=1e-5)
    both = (0.4 * scores["dense"] + 0.2 * scores["sparse"]) / 0.6
    np.testing.assert_allclose(scores["sparse+dense"], both, rtol=1e-5)
    with pytest.raises(InvalidInput, match="aligned pairs, not 3 queries and 2 texts"):
        compute_score(queries, documents[:2])


def test_weighted_sum_takes_missing_scores_as_nothing() -> None:
    scores = {"dense": np.array([1.0, np.nan]), "sparse": np.array([np.nan, 2.0])}
    np.testing.assert_allclose(fuse(scores, WeightedSum(1.0, 0.5, 9.0)), [1.0, 1.0])


def test_rrf_adds_reciprocal_ranks() -> None:
    scores = {"dense": np.array([0.9, 0.5, 0.7]), "sparse": np.array([np.nan, 3.0, 1.0])}
    np.testing.assert_allclose(fuse(scores, RRF(k=60)), [1 / 61, 1 / 63 + 1 / 61, 1 / 62 + 1 / 62])
    weighted = fuse(scores, RRF(k=1, weights=(2.0, 1.0, 0.0)))
    np.testing.assert_allclose(weighted, [2 / 2, 2 / 4 + 1 / 2, 2 / 3 + 1 / 3])


def test_dbsf_scales_by_mean_and_deviation() -> None:
    values = np.array([1.0, 2.0, 6.0])
    sigma = values.std(ddof=1)
    expected = (values - (values.mean() - 3 * sigma)) / (6 * sigma)
    np.testing.assert_allclose(fuse({"dense": values}, DBSF()), expected)
    np.testing.assert_allclose(fuse({"dense": np.array([0.1, 0.1, 0.1])}, DBSF()), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(fuse({"dense": np.array([3.0, np.nan])}, DBSF()), [0.5, 0.0])


@pytest.mark.parametrize("fusion", [WeightedSum(1.0, 0.3, 1.0), RRF(), RRF(10, (1.0, 0.2, 0.5)), DBSF()])
@given(st.integers(0, 50), st.integers(1, 8))
def test_fusing_many_queries_equals_fusing_each(fusion: object, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    scores = {m: np.where(rng.random((3, n)) < 0.2, np.nan, rng.random((3, n)).round(1)) for m in ("dense", "sparse")}
    together = fuse(scores, fusion)
    order = rng.permutation(n)
    for row in range(3):
        alone = fuse({m: s[row, order] for m, s in scores.items()}, fusion)
        np.testing.assert_allclose(together[row, order], alone, atol=1e-12)


def test_equal_scores_share_the_better_rank() -> None:
    np.testing.assert_array_equal(ranks(np.array([0.0, 5.0, 0.0, np.nan, 7.0])), [3, 2, 3, np.nan, 1])


@pytest.mark.parametrize(
    "scores",
    [
        {"dense": np.array([1.0, np.inf])},
        {"dense": np.float64(1.0)},
        {},
        {"colbert": np.zeros(2)},
        {"dense": np.zeros(2), "sparse": np.zeros(3)},
    ],
)
def test_fuse_refuses_what_it_cannot_fuse(scores: dict) -> None:
    with pytest.raises(InvalidInput):
        fuse(scores, RRF())


@pytest.mark.parametrize("fusion", ["rrf", RRF, None])
def test_fuse_refuses_what_is_no_fusion(fusion: object) -> None:
    with pytest.raises(InvalidInput, match="fusion must be a WeightedSum, RRF or DBSF object"):
        fuse({"dense": np.zeros(2)}, fusion)


def test_weights_are_three() -> None:
    with pytest.raises(InvalidInput, match="weights are three"):
        RRF(weights=(1.0, 1.0))
    with pytest.raises(InvalidInput, match="weights are three"):
        random_output(1, 0).score(random_output(1, 1), weights=(1.0, 2.0))


def test_outputs_of_different_models_are_not_compared() -> None:
    mine = Fingerprint("a", "1", ("dense",), 4, None, "cls", True, 128)
    longer, other = replace(mine, max_length=512, instruction="q: "), replace(mine, revision="2")
    query, same, foreign = (M3Output(np.ones((1, 4), np.float32), fingerprint=f) for f in (mine, longer, other))
    assert query.score(same)[0, 0] == 4.0
    with pytest.raises(InvalidInput, match=r"different models cannot be compared \(revision '1' and '2'\)"):
        query.score(foreign)
