import numpy as np
import pytest

from m3core import InvalidInput, M3Encoder
from m3core.evaluation import BM25, METRICS, JudgedSet, bootstrap_interval, evaluate, measure
from m3core.evaluation.beir import Passages

QRELS = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1}}


def test_metrics_are_the_textbook_ones() -> None:
    run = {"q1": {"b": 3.0, "x": 2.0, "a": 1.0}, "q2": {"x": 1.0}}
    values = measure(run, QRELS, ["q2", "q1"], ["nDCG@10", "MRR@10", "Recall@2"])
    gain = 1 / np.log2(2) + 2 / np.log2(4)
    ideal = 2 / np.log2(2) + 1 / np.log2(3)
    np.testing.assert_allclose(values["nDCG@10"], [0, gain / ideal])
    np.testing.assert_allclose(values["MRR@10"], [0, 1])
    np.testing.assert_allclose(values["Recall@2"], [0, 0.5])


def test_a_query_without_results_scores_nothing() -> None:
    values = measure({"q1": {"a": 1.0}}, QRELS, ["q1", "q2"], ["Recall@10"])
    np.testing.assert_allclose(values["Recall@10"], [0.5, 0])


@pytest.mark.parametrize("metric", ["accuracy", "nDCG", "nDCG@ten", "nDCG@0", "Recall@1000"])
def test_an_unknown_metric_is_named(metric: str) -> None:
    with pytest.raises(InvalidInput, match="unknown metric"):
        measure({}, QRELS, ["q1"], [metric])


def test_the_bootstrap_interval_holds_the_mean_and_narrows_with_more_queries() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.random(20), rng.random(2000)
    for values in (few, many):
        low, high = bootstrap_interval(values)
        assert low < values.mean() < high
    assert np.diff(bootstrap_interval(many)) < np.diff(bootstrap_interval(few)) / 5
    assert bootstrap_interval(few) == bootstrap_interval(few)
    assert bootstrap_interval(np.ones(5)) == (1.0, 1.0)


def test_bm25_finds_chinese_and_english_words() -> None:
    index = BM25(["人工智能会取代教师吗", "城市应当征收拥堵费", "The congestion charge of a city"])
    scores = index.score(["拥堵费", "CONGESTION", "没有"])
    assert scores.shape == (3, 3)
    assert scores[:2].argmax(axis=1).tolist() == [1, 2]
    assert not scores[2].any()


def test_a_report_has_each_mode_hybrid_and_bm25(tiny_m3: M3Encoder) -> None:
    texts = ["the one", "me and you", "中国人", "a b c"]
    judged = JudgedSet(
        "tiny",
        Passages(list("abcd"), texts, [{}] * 4),
        Passages(["q1", "q2"], texts[:2], [{"kind": "x"}, {"kind": "y"}]),
        {"q1": {"a": 1}, "q2": {"b": 1}},
    )
    report = evaluate(tiny_m3, judged)
    assert report.systems == ["dense", "sparse", "multivector", "hybrid", "bm25"]
    assert all(report.values[s][m].shape == (2,) for s in report.systems for m in METRICS)
    assert report.mean("hybrid") == 1.0  # a text is nearest to itself
    assert report.groups("kind")["y"].tolist() == [False, True]
