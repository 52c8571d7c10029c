"""What every store does, on the embedded engine."""

from pathlib import Path

import numpy as np
import pytest
from vectors import WEIGHTS, fingerprint, random_output, records

from m3core import CollectionMismatch, InvalidInput, M3Output, SparseVector, StoreError, UnsupportedMode
from m3core.scoring import mode_scores
from m3stores import DBSF, RRF, HybridStore, QdrantStore, Record, WeightedSum

N = 120
ALL = ["dense", "sparse", "multivector"]


@pytest.fixture(scope="module")
def filled():
    with QdrantStore("filled") as store:
        store.upsert(records(N), random_output(N))
        yield store


@pytest.fixture
def store():
    with QdrantStore("test") as store:
        yield store


def expected(queries: M3Output, **options) -> list[list[tuple[str, float]]]:
    scores = queries.score(random_output(N), **options)
    order = np.argsort(-scores, axis=1, kind="stable")
    return [[(f"doc {i}", float(row[i])) for i in best] for row, best in zip(scores, order, strict=True)]


def assert_same(hits, wanted) -> None:
    for found, reference in zip(hits, wanted, strict=True):
        assert [hit.id for hit in found] == [i for i, _ in reference[: len(found)]]
        assert [hit.score for hit in found] == pytest.approx([s for _, s in reference[: len(found)]], abs=1e-4)


def test_records_come_back_as_they_were(store: HybridStore) -> None:
    kept = [
        Record("任意 id/№1", "文本 with\nlines and \0", {"a": {"b": [1, 2.5, None, "x"]}, "键": True, "": "empty key"}),
        Record("2", "", {}),
    ]
    assert store.upsert(kept, random_output(2)) == ["任意 id/№1", "2"]
    assert store.get(["2", "missing", "任意 id/№1"]) == [kept[1], kept[0]]
    assert store.count() == 2


def test_upsert_replaces(store: HybridStore) -> None:
    store.upsert(records(5), random_output(5))
    store.upsert([Record("doc 3", "new", {"side": "new"})], random_output(1, seed=9))
    assert store.count() == 5
    assert store.get(["doc 3"]) == [Record("doc 3", "new", {"side": "new"})]
    (hits,) = store.search(random_output(1, seed=9), k=1, rerank=True)
    assert hits[0].id == "doc 3"


def test_delete_by_ids_and_by_filter(store: HybridStore) -> None:
    store.upsert(records(6), random_output(6))
    store.delete(["doc 0", "doc 0", "missing"])
    assert store.count() == 5
    store.delete(filter={"side": "pro"})
    assert store.count() == 2
    assert {hit.id for hit in store.search(random_output(1))[0]} == {"doc 2", "doc 4"}
    store.delete([])
    assert store.count() == 2


@pytest.mark.parametrize(
    "modes", [["dense"], ["sparse"], ["multivector"], ["dense", "sparse"], ["sparse", "dense"], ALL]
)
def test_each_set_of_modes_ranks_as_the_score_over_all_records(filled: HybridStore, modes: list) -> None:
    queries = random_output(4, seed=1)
    weights = tuple(w if mode in modes else 0.0 for mode, w in zip(ALL, WEIGHTS, strict=True))
    hits = filled.search(queries, k=N, modes=modes, candidates=N)
    wanted = expected(queries, weights=weights)
    if modes == ["sparse"]:  # records without a token in common are no candidates
        wanted = [[(i, s) for i, s in row if s > 0] for row in wanted]
        assert [len(row) for row in hits] == [len(row) for row in wanted]
    assert_same(hits, wanted)


def test_rerank_adds_the_multi_vectors(filled: HybridStore) -> None:
    queries = random_output(4, seed=2)
    assert_same(filled.search(queries, k=20, candidates=N, rerank=True), expected(queries))
    assert_same(filled.search(queries, k=20, candidates=N), expected(queries, weights=(1.0, 0.3, 0.0)))


def test_scores_and_ranks_are_complete(filled: HybridStore) -> None:
    queries = random_output(3, seed=3)
    exact = {mode: mode_scores(queries, random_output(N), mode) for mode in ALL}
    for row, hits in enumerate(filled.search(queries, k=N, rerank=True)):
        for hit in hits:
            number = hit.metadata["number"]
            assert list(hit.scores) == ALL
            for mode, score in hit.scores.items():
                assert score == pytest.approx(exact[mode][row, number], abs=1e-4), mode
            assert hit.text == f"text {number}"
        for mode in ALL:
            by_mode = sorted(hits, key=lambda hit: -hit.scores[mode])
            assert by_mode[0].ranks[mode] == 1
            assert by_mode[-1].ranks[mode] <= len(hits)


@pytest.mark.parametrize("fusion", [RRF(), RRF(10, (1, 2, 3)), DBSF(), WeightedSum(0.0, 1.0), WeightedSum(1, 1, 1)])
def test_fusion_is_that_of_the_core(filled: HybridStore, fusion) -> None:
    from m3core import fuse

    queries = random_output(2, seed=4)
    documents = random_output(N)
    scores = fuse({mode: mode_scores(queries, documents, mode) for mode in ALL}, fusion)
    for row, hits in enumerate(filled.search(queries, k=5, candidates=N, fusion=fusion, rerank=True)):
        assert [hit.score for hit in hits] == pytest.approx(np.sort(scores[row])[::-1][:5].tolist(), abs=1e-4)


def test_few_candidates_are_scored_by_every_mode(filled: HybridStore) -> None:
    (hits,) = filled.search(random_output(1, seed=5), k=1, candidates=1)
    assert set(hits[0].scores) == {"dense", "sparse"}
    (more,) = filled.search(random_output(1, seed=5), k=3)
    assert more[0].score >= hits[0].score


def test_equal_scores_go_by_id(store: HybridStore) -> None:
    one = random_output(1)
    store.upsert([Record(i, "same") for i in "cabd"], M3Output.concat([one] * 4))
    assert [hit.id for hit in store.search(one, k=3)[0]] == ["a", "b", "c"]


def test_a_query_without_lexical_weights_is_searched_by_the_rest(filled: HybridStore) -> None:
    query = random_output(1, seed=6)
    bare = M3Output(query.dense, [SparseVector([], [])], None, WEIGHTS, query.fingerprint)
    (hits,) = filled.search(bare, k=5)
    assert [hit.scores["sparse"] for hit in hits] == [0.0] * 5
    assert filled.search(bare, k=5, modes=["sparse"]) == [[]]


def test_filters_hold_for_every_mode(filled: HybridStore) -> None:
    for modes in (["dense"], ["sparse"], ["multivector"], None):
        (hits,) = filled.search(
            random_output(1, seed=7), k=50, modes=modes, filter={"number": {"$lt": 10}, "side": "pro"}
        )
        assert {hit.metadata["number"] for hit in hits} <= {1, 3, 5, 7, 9}
        assert hits
    assert filled.count({"number": {"$gte": 100}}) == 20
    assert filled.search(random_output(1), filter={"side": "neither"}) == [[]]


def test_the_engines_own_filter_passes_through(filled: HybridStore) -> None:
    from qdrant_edge import FieldCondition, Filter, RangeFloat

    own = Filter(must=[FieldCondition("metadata.number", range=RangeFloat(lt=3))])
    assert filled.count(own) == 3
    assert len(filled.search(random_output(1), filter=own)[0]) == 3


def test_a_new_collection_is_empty(store: HybridStore) -> None:
    assert store.count() == 0
    assert store.get(["x"]) == []
    assert store.search(random_output(2)) == [[], []]
    store.delete(["x"])
    store.delete(filter={"a": 1})
    assert store.upsert([], random_output(0)) == []
    assert store.schema is None
    assert store.modes == ()


def test_a_collection_keeps_the_modes_that_it_was_given(store: HybridStore) -> None:
    store.upsert(records(3), random_output(3, modes=("dense",)))
    assert store.modes == ("dense",)
    assert list(store.search(random_output(1), k=1)[0][0].scores) == ["dense"]
    with pytest.raises(UnsupportedMode, match="has no multivector representations; it has dense"):
        store.search(random_output(1), rerank=True)
    with pytest.raises(UnsupportedMode, match="has no sparse"):
        store.search(random_output(1), modes=["dense", "sparse"])
    with pytest.raises(CollectionMismatch, match=r"encode with modes=\['dense'\]"):
        store.upsert(records(1), random_output(1))


def test_queries_without_a_needed_mode_are_refused(filled: HybridStore) -> None:
    with pytest.raises(UnsupportedMode, match="the queries have no sparse"):
        filled.search(random_output(1, modes=("dense",)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (fingerprint("another"), "model is 'random' there and 'another' here"),
        (fingerprint(max_length=64), "max_length is 512 there and 64 here"),
        (None, "of no known encoder"),
    ],
)
def test_another_encoders_vectors_are_refused(filled: HybridStore, other, message: str) -> None:
    before = filled.count()
    with pytest.raises(CollectionMismatch, match=message):
        filled.upsert(records(1, first=N), random_output(1, made_by=other))
    with pytest.raises(CollectionMismatch, match=message):
        filled.search(random_output(1, made_by=other))
    assert filled.count() == before


def test_without_fingerprints_the_widths_are_compared(store: HybridStore) -> None:
    store.upsert(records(2), random_output(2, made_by=None))
    with pytest.raises(CollectionMismatch, match="dense vectors 16 wide, and these are 24 wide"):
        store.upsert(records(1), random_output(1, made_by=None, dim=24))
    with pytest.raises(CollectionMismatch, match="of no known encoder"):
        store.search(random_output(1))


def broken(kind: str) -> M3Output:
    output = random_output(3, seed=8)
    match kind:
        case "dense NaN":
            output.dense[1, 2] = np.nan
        case "sparse NaN":
            output.sparse[1].values[0] = np.nan
        case "sparse infinity":
            output.sparse[1].values[0] = np.inf
        case "duplicate ids":
            output.sparse[1] = SparseVector([1, 7], [0.5, 0.5])
            output.sparse[1].indices[0] = 7
        case "mismatched lengths":
            object.__setattr__(output.sparse[1], "values", output.sparse[1].values[:-1])
        case "negative ids":
            output.sparse[1].indices[0] = -1
        case "multivector NaN":
            output.multivector[1][0, 0] = np.nan
        case "dense beyond float16":
            output.dense[1, 2] = 1e5
        case "multivector beyond float16":
            output.multivector[1][0, 0] = -1e5
        case "multivector of objects":
            output.multivector[1] = output.multivector[1].astype(object)
        case "no rows":
            output.multivector[1] = output.multivector[1][:0]
        case "too many rows":
            output.multivector[1] = np.ones((2**17, 8), dtype=np.float32)
    return output


KINDS = [
    "dense NaN", "sparse NaN", "sparse infinity", "duplicate ids", "mismatched lengths", "negative ids",
    "multivector NaN", "no rows", "too many rows", "dense beyond float16", "multivector beyond float16",
    "multivector of objects",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_bad_vectors_are_refused_and_the_collection_still_opens(tmp_path: Path, kind: str) -> None:
    with QdrantStore("test", path=tmp_path) as store:
        with pytest.raises(InvalidInput, match="'doc 1'"):
            store.upsert(records(3), broken(kind))
        assert store.schema is None
        store.upsert(records(5, first=10), random_output(5))
        with pytest.raises(InvalidInput, match="'doc 1'"):
            store.upsert(records(3), broken(kind))
        with pytest.raises(InvalidInput, match="query 1"):
            store.search(broken(kind))
        assert store.count() == 5
    with QdrantStore("test", path=tmp_path) as store:
        assert store.count() == 5
        assert len(store.search(random_output(1), rerank=True)[0]) == 5


def deep(levels: int) -> dict:
    metadata: dict = {}
    for level in range(levels):
        metadata = {"a": [metadata] if level % 2 else metadata}
    return metadata


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record("", "text"), "empty id"),
        (Record(7, "text"), "the id of record 1 is int"),
        (Record("x", None), "the text of record 'x' is None"),
        (Record("x", "\ud800"), "lone surrogate"),
        (Record("doc 0", "text"), "two records have the id 'doc 0'"),
        (Record("x", "text", {"when": np.float32(1)}), "'when': a float32 is no JSON"),
        (Record("x", "text", {"a": {"b": [float("nan")]}}), "'b': nan is no JSON"),
        (Record("x", "text", {3: 4}), "keys are texts, not 3"),
        (Record("x", "text", {"n": 2**63}), "does not fit into 64 bits"),
        (Record("x", "text", "metadata"), "is a str, not a dict"),
        (Record("x", "text", deep(33)), "nested more than 32 levels deep"),
        (Record("x", "text", deep(5000)), "nested more than 32 levels deep"),
        ({"id": "x", "text": "y"}, "record 1 is a dict, not a Record"),
    ],
)
def test_bad_records_are_refused(store: HybridStore, record, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        store.upsert([records(1)[0], record], random_output(2))
    assert store.count() == 0


def test_bad_arguments_are_refused(filled: HybridStore) -> None:
    query = random_output(1)
    for options, message in [
        ({"k": 0}, "k must be"),
        ({"k": True}, "k must be"),
        ({"k": 2**62}, "k must be"),
        ({"modes": 5}, "modes must be a list"),
        ({"modes": [["dense"]]}, "modes must be a list"),
        ({"k": 5, "candidates": 4}, "candidates must be"),
        ({"modes": "dense"}, "modes must be a list"),
        ({"modes": ["colbert"]}, "modes must be a list"),
        ({"modes": []}, "modes must be a list"),
        ({"filter": "pro"}, "a filter is a dict"),
        ({"fusion": "rrf"}, "fusion must be"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            filled.search(query, **options)
    for call in (lambda: filled.delete(), lambda: filled.delete(["a"], filter={"a": 1})):
        with pytest.raises(InvalidInput, match="either ids or a filter"):
            call()
    for ids in ("doc 1", None, [1]):
        with pytest.raises(InvalidInput, match="ids must be a list"):
            filled.get(ids)
    with pytest.raises(InvalidInput, match="an empty filter would delete everything"):
        filled.delete(filter={})
    with pytest.raises(InvalidInput, match="not as a NoneType"):
        filled.upsert(records(1), None)
    with pytest.raises(InvalidInput, match="not as a str"):
        filled.search("query")
    with pytest.raises(InvalidInput, match="have no numbers"):
        filled.upsert(records(1), M3Output(np.zeros((1, 0))))
    with pytest.raises(InvalidInput, match="2 records come with the vectors of 1"):
        filled.upsert(records(2), random_output(1))


def test_metadata_of_any_mapping_comes_back_plain(tmp_path: Path) -> None:
    from types import MappingProxyType

    metadata = MappingProxyType({"a": MappingProxyType({"b": (1, 2)}), "deep": deep(15)})
    with QdrantStore("test", path=tmp_path) as store:
        store.upsert([Record("x", "text", metadata)], random_output(1))
    with QdrantStore("test", path=tmp_path) as store:
        assert store.get(["x"])[0].metadata == {"a": {"b": [1, 2]}, "deep": deep(15)}


def test_many_records_are_deleted_by_a_filter(tmp_path: Path) -> None:
    """The log of the engine cannot read deep filters again; ids it can."""
    wanted: dict = {"number": {"$lt": 2100}}
    for _ in range(14):
        wanted = {"$and": [wanted, {"number": {"$gte": 0}}]}
    with QdrantStore("test", path=tmp_path) as store:
        store.upsert(records(2200), random_output(2200, modes=("sparse",)))
        store.delete(filter=wanted)
    with QdrantStore("test", path=tmp_path) as store:
        assert store.count() == 100


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    with QdrantStore("debate", path=tmp_path / "new" / "folder") as store:
        store.upsert(records(N), random_output(N))
        schema = store.schema
    with QdrantStore("debate", path=tmp_path / "new" / "folder") as store:
        assert store.schema == schema
        queries = random_output(2, seed=1)
        assert_same(store.search(queries, k=10, candidates=N, rerank=True), expected(queries))
        with pytest.raises(CollectionMismatch):
            store.search(random_output(1, made_by=fingerprint("another")))


def test_collections_share_a_path(tmp_path: Path) -> None:
    with QdrantStore("一", path=tmp_path) as one, QdrantStore("two", path=tmp_path) as two:
        one.upsert(records(1), random_output(1))
        two.upsert(records(2), random_output(2))
        assert (one.count(), two.count()) == (1, 2)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = QdrantStore("test", path=tmp_path)
    store.upsert(records(1), random_output(1))
    store.close()
    store.close()
    new = QdrantStore("new", path=tmp_path)
    new.close()
    for closed in (store, new):
        for call in (
            lambda s: s.count(),
            lambda s: s.search(random_output(1)),
            lambda s: s.get(["a"]),
            lambda s: s.upsert(records(1), random_output(1)),
        ):
            with pytest.raises(StoreError, match="is closed: open a new QdrantStore"):
                call(closed)
    assert repr(store) == f"QdrantStore('test', qdrant:{tmp_path})"


async def test_asearch_finds_the_same(filled: HybridStore) -> None:
    queries = random_output(2, seed=1)
    assert await filled.asearch(queries, k=3, rerank=True) == filled.search(queries, k=3, rerank=True)
