from dataclasses import replace

import numpy as np
import pytest
from judged import judged_set

from m3core import InvalidInput, UnsupportedMode
from m3core.evaluation import Candidates, fit_weights, measure

MODES = ("dense", "sparse", "multivector")


def gathered(
    matrices: dict[str, np.ndarray], grades: np.ndarray, *, name: str = "made", depth: int = 100
) -> Candidates:
    """From scores and grades of a whole corpus, both `(queries, passages)`."""
    queries, passages = grades.shape
    judged = judged_set(
        {f"d{i}": "" for i in range(passages)},
        {f"q{i}": "" for i in range(queries)},
        {f"q{q}": {f"d{p}": int(grades[q, p]) for p in range(passages) if grades[q, p]} for q in range(queries)},
        name=name,
    )
    best = {mode: np.argsort(-matrix, axis=1)[:, :depth] for mode, matrix in matrices.items()}
    return Candidates.gather(judged, judged.queries.ids, matrices, best)


def scored(queries: int = 200, *, noise: tuple[float, ...] = (1.0, 0.5, 1.0), seed: int = 0) -> Candidates:
    """One of 60 passages answers each query. A mode gives it 1 and the others 0, but for noise of its own strength.

    So the best weights are to each other as the inverse of the squared noises, whose sum is the likelihood's.
    """
    rng = np.random.default_rng(seed)
    grades = np.zeros((queries, 60))
    grades[np.arange(queries), rng.integers(60, size=queries)] = 1
    matrices = {
        mode: (grades + sigma * rng.standard_normal(grades.shape)).astype(np.float32)
        for mode, sigma in zip(MODES, noise, strict=False)
    }
    return gathered(matrices, grades)


def test_ndcg_is_that_of_the_whole_ranking() -> None:
    rng = np.random.default_rng(0)
    matrices = {mode: rng.random((20, 300), dtype=np.float32) for mode in MODES}
    grades = rng.integers(0, 3, (20, 300)) * (rng.random((20, 300)) < 0.1)
    grades[3] = 0
    for weights in ((1.0, 0.0, 0.0), (1.0, 0.3, 2.0)):
        total = sum(np.float64(w) * matrices[mode] for w, mode in zip(weights, MODES, strict=True))
        run = {f"q{q}": {f"d{p}": float(s) for p, s in enumerate(row)} for q, row in enumerate(total)}
        qrels = {f"q{q}": {f"d{p}": int(g) for p, g in enumerate(row)} for q, row in enumerate(grades)}
        expected = measure(run, qrels, list(run), ["nDCG@10"])["nDCG@10"]
        np.testing.assert_allclose(gathered(matrices, grades).ndcg(weights), expected, atol=1e-12)
        assert expected.std() > 0.02


def test_an_answer_that_no_mode_found_counts_as_lost() -> None:
    matrices = {mode: np.array([[3.0, 2.0, 1.0]], dtype=np.float32) for mode in MODES}
    (value,) = gathered(matrices, np.array([[1, 0, 1]]), depth=2).ndcg((1.0, 1.0, 1.0))
    assert value == pytest.approx(1 / (1 + 1 / np.log2(3)))


def test_the_best_weights_are_found() -> None:
    fit = fit_weights([scored(600)], (1.0, 1.0, 1.0))
    dense, sparse, multi = fit.weights
    assert dense == 1
    assert 2 < sparse < 8  # 4 is best
    assert 0.35 < multi < 2  # 1 is best
    assert fit.interval[0] > 0  # they are better than all alike, on queries that they were not found on
    assert fit.interval[0] < fit.gain < fit.interval[1]
    assert fit.before == (1.0, 1.0, 1.0)


def test_they_follow_the_scale_of_a_modes_scores() -> None:
    plain = scored()
    scaled = replace(plain, scores={**plain.scores, "sparse": plain.scores["sparse"] * np.float32(1000)})
    expected, found = (fit_weights([one], (1.0, 1.0, 1.0)).weights for one in (plain, scaled))
    assert found[1] == pytest.approx(expected[1] / 1000, rel=0.06)  # two digits
    assert found[2] == expected[2]


def test_a_mode_that_tells_nothing_apart_has_no_weight() -> None:
    plain = scored()
    mute = replace(plain, scores={**plain.scores, "sparse": np.where(np.isnan(plain.scores["sparse"]), np.nan, 0.0)})
    assert fit_weights([mute], (1.0, 1.0, 1.0)).weights[1] == 0
    without = replace(plain, scores={mode: plain.scores[mode] for mode in ("dense", "multivector")})
    assert fit_weights([without], (1.0, 0.0, 1.0)).weights[1] == 0


def test_noise_has_little_weight() -> None:
    fit = fit_weights([scored(400, noise=(0.4, 50.0, 0.4))], (1.0, 1.0, 1.0))
    assert fit.weights[1] * 50 < 0.3 * 0.4


def test_of_weights_that_are_as_good_the_middle_is_taken() -> None:
    """The answer is first from a weight of .25 to one of 4, and second below and above."""
    dense, sparse = (np.tile(np.array(row, dtype=np.float32), (40, 1)) for row in ([0.8, 1, 0], [0.8, 0, 1]))
    grades = np.tile([1, 0, 0], (40, 1))
    made = gathered({"dense": dense, "sparse": sparse}, grades)
    assert [made.ndcg((1.0, w, 0.0)).mean() for w in (0.2, 0.3, 3.8, 4.2)] == pytest.approx(
        [0.631, 1, 1, 0.631], abs=1e-3
    )
    assert fit_weights([made], (1.0, 0.1, 0.0)).weights == (1.0, 1.0, 0.0)


def test_held_out_queries_are_others_and_the_same_in_every_set() -> None:
    one, two = scored(80), replace(scored(80, seed=1), name="other")
    fit = fit_weights([one, two], (1.0, 1.0, 1.0))
    assert [held.name for held in fit.held_out] == ["made", "other"]
    assert 2 * 80 - fit.dev_queries == sum(len(held.before) for held in fit.held_out)
    assert 20 < len(fit.held_out[0].before) == len(fit.held_out[1].before) < 60
    backwards = one.select(np.ones(80, dtype=bool))
    order = np.arange(80)[::-1]
    backwards = replace(
        one,
        queries=one.queries[::-1],
        scores={mode: matrix[order] for mode, matrix in one.scores.items()},
        grades=one.grades[order],
        ideal=one.ideal[order],
    )
    again = fit_weights([backwards, two], (1.0, 1.0, 1.0))
    assert again.weights == fit.weights
    np.testing.assert_array_equal(again.held_out[0].after, fit.held_out[0].after[::-1])
    assert len(fit_weights([one], (1.0, 1.0, 1.0), seed=1).held_out[0].before) != len(fit.held_out[0].before)


def test_sets_count_alike_however_many_queries_they_have() -> None:
    """In the small set sparse is much better, in the large one it is worse."""
    small, large = scored(60, noise=(2.0, 0.2, 9.0)), scored(1000, noise=(0.8, 1.5, 9.0))
    fit = fit_weights([small, large], (1.0, 0.0, 0.0))
    assert fit.gain == pytest.approx(np.mean([(one.after - one.before).mean() for one in fit.held_out]))
    assert fit.held_out[0].after.mean() > fit.held_out[0].before.mean() + 0.2


def test_what_cannot_be_fitted_is_named() -> None:
    with pytest.raises(UnsupportedMode, match="dense only: there is nothing to fuse"):
        fit_weights([scored(noise=(1.0,))], (1.0, 0.0, 0.0))
    with pytest.raises(InvalidInput, match="made has 3 judged queries, too few"):
        fit_weights([scored(3)], (1.0, 1.0, 1.0))
    with pytest.raises(InvalidInput, match="at least one judged set"):
        fit_weights([], (1.0, 1.0, 1.0))
