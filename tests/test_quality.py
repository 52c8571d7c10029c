"""Floors of retrieval quality, through the public API with default arguments."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from m3core import M3Encoder
from m3core.evaluation import Report, evaluate, load_beir, measure
from m3stores import QdrantStore, Record


@pytest.fixture(scope="module")
def report(mini: M3Encoder, debate: Path) -> Report:
    """The bundled model on the debate set; with `-s` or on failure pytest shows its table."""
    report = evaluate(mini, load_beir(debate))
    groups = {"all": None, **report.groups("kind")}
    for system in report.systems:
        for name, where in groups.items():
            low, high = report.interval(system, where=where)
            print(f"{system:12} {name:15} nDCG@10 {report.mean(system, where=where):.3f} ({low:.3f}–{high:.3f})")
    return report


def test_the_hybrid_is_no_worse_than_the_best_mode_on_the_debate_set(report: Report) -> None:
    best = max(report.mean(mode) for mode in ("dense", "sparse", "multivector"))
    assert report.mean("hybrid") >= best - 0.01


@pytest.mark.parametrize("kind", ["paraphrase", "english"])
def test_the_hybrid_beats_bm25_where_words_differ(report: Report, kind: str) -> None:
    low, _ = report.advantage("hybrid", "bm25", where=report.groups("kind")[kind])
    assert low > 0.1


@pytest.mark.parametrize(
    ("system", "kind", "floor"),
    [
        ("hybrid", "exact_term", 0.89),
        ("hybrid", "number_or_name", 0.97),
        ("sparse", "exact_term", 0.91),
        ("dense", "paraphrase", 0.47),
        ("dense", "english", 0.60),
        ("multivector", "english", 0.52),
        ("hybrid", "english", 0.61),
    ],
)
def test_each_mode_is_good_at_what_it_is_for(report: Report, system: str, kind: str, floor: float) -> None:
    assert report.mean(system, where=report.groups("kind")[kind]) >= floor


@pytest.mark.filterwarnings("ignore::m3core.errors.TruncationWarning")
@pytest.mark.parametrize(
    ("name", "floors"),
    [
        ("xquad-zh-en", {"dense": 0.87, "hybrid": 0.89}),
        ("xquad-zh-zh", {"dense": 0.937, "sparse": 0.938, "multivector": 0.964, "hybrid": 0.967}),
        ("docs-zh-zh", {"dense": 0.76, "hybrid": 0.80}),
        ("docs-zh-en", {"dense": 0.65, "hybrid": 0.66}),
    ],
)
def test_public_judged_sets(
    mini: M3Encoder, eval_set: Callable[[str], Path], name: str, floors: dict[str, float]
) -> None:
    result = evaluate(mini, load_beir(eval_set(name)), bm25=False, metrics=["nDCG@10"])
    for system, floor in floors.items():
        assert result.mean(system) >= floor, system


@pytest.mark.parametrize("rerank", [True, False])
def test_a_collection_with_default_candidates_is_as_good_as_scoring_everything(
    mini: M3Encoder, debate: Path, rerank: bool
) -> None:
    judged = load_beir(debate)
    queries = mini.encode_queries(judged.queries.texts)
    documents = mini.encode_documents(judged.corpus.texts)
    weights = mini.score_weights if rerank else (*mini.score_weights[:2], 0.0)
    order = np.argsort(-queries.score(documents, weights=weights), axis=1)[:, :10]
    whole = {
        query: {judged.corpus.ids[i]: 1.0 / rank for rank, i in enumerate(best, start=1)}
        for query, best in zip(judged.queries.ids, order, strict=True)
    }
    with QdrantStore("debate") as store:
        corpus = zip(judged.corpus.ids, judged.corpus.texts, strict=True)
        store.upsert([Record(i, text) for i, text in corpus], documents)
        found = store.search(queries, k=10, rerank=rerank)
    run = {query: {hit.id: hit.score for hit in hits} for query, hits in zip(judged.queries.ids, found, strict=True)}
    ndcg = [measure(r, judged.qrels, judged.queries.ids)["nDCG@10"].mean() for r in (run, whole)]
    assert ndcg[0] == pytest.approx(ndcg[1], abs=0.005)
