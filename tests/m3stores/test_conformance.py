"""What every kind of store does with records: upsert, get, count, scroll, page, delete, clear, drop, close."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from filtering import matches
from store_checks import check_contents, check_search, check_vectors, exact
from store_reference import ALL, made, part
from vectors import fingerprint, records

from m3core import CollectionMismatch, M3Output, Mode, Record, SparseVector, StoreError, UnsupportedMode
from m3stores import HybridStore

FLAT = [
    Record("任意 id/№1 '\"%", "文本 with\nlines and \0", {"键": True, "a b": 1, "c.d": "x", "none": None, "empty": []}),
    Record("2", "", {}),
    Record("i" * 300, "x" * 100_000, {"whole": 1.0, "third": 1 / 3, "most": 2**63 - 1, "least": -(2**63), "e": 1e300}),
    Record("lists", "of one type", {"texts": ["", "中"], "flags": [True, False], "numbers": [1, 2], "floats": [0.1]}),
]
NESTED = [Record("nested", "text", {"a": {"b": [1, 2.5, None, "x", {"c": {}}]}, "": "empty key"})]


def test_a_new_collection_is_empty(fresh: HybridStore) -> None:
    assert (fresh.schema, fresh.modes, fresh.count(), fresh.count({"a": 1})) == (None, (), 0, 0)
    assert (fresh.get(["x"]), fresh.vectors(["x"], "dense")) == ([], {})
    assert fresh.search(made(2)) == [[], []]
    assert list(fresh.scroll(with_vectors=True)) == []
    assert (fresh.page().records, fresh.page().next) == ([], None)
    fresh.delete(["x"])
    fresh.delete(filter={"a": 1})
    fresh.clear()
    fresh.drop()
    assert fresh.upsert([], made(0)) == []
    assert fresh.schema is None


def test_records_come_back_as_they_were(home) -> None:
    kept = FLAT + NESTED * home.kind.nested
    store, reference, output = home.open(), home.reference(), made(len(kept))
    assert store.upsert(kept, output) == [record.id for record in kept]
    assert [exact(record) for record in store.get([r.id for r in kept])] == [exact(record) for record in kept]
    assert store.schema.fingerprint == output.fingerprint
    reference.upsert(kept, output)
    check_contents(store, reference)


def test_upsert_writes_only_what_is_new_or_different(home) -> None:
    store, reference = home.open(), home.reference()
    first, output = records(8), made(8)
    other = made(8, seed=1)
    sparse = [*output.sparse[:6], SparseVector(output.sparse[6].indices, output.sparse[6].values * 2), output.sparse[7]]
    multivector = [*output.multivector[:7], output.multivector[7][:1]]
    dense = np.concatenate([output.dense[:5], other.dense[5:6], output.dense[6:]])
    changed = [
        first[0],
        replace(first[1], text="another text"),
        replace(first[2], metadata={**first[2].metadata, "side": "neither"}),
        replace(first[3], metadata={"number": 3.0, "side": "pro"}),
        replace(first[4], metadata={}),
        *first[5:],
    ]
    for batch, vectors, written in [
        (first, output, list(range(8))),
        (first, output, []),
        (first[2:5], output[2:5], []),
        (changed, M3Output(dense, sparse, multivector, output.score_weights, output.fingerprint), list(range(1, 8))),
        ([*records(1, first=20), changed[0]], M3Output.concat([made(1, seed=20), output[0]]), [20]),
    ]:
        ids = [f"doc {n}" for n in written]
        assert store.upsert(batch, vectors) == reference.upsert(batch, vectors) == ids
        check_contents(store, reference)
    assert check_search(store, reference, other[5], k=1, rerank=True)[0][0].id == "doc 5"


def test_get_keeps_the_order_asked_for(home) -> None:
    store = home.open()
    store.upsert(records(5), made(5))
    assert [r.id for r in store.get(["doc 3", "missing", "doc 0", "doc 3"])] == ["doc 3", "doc 0", "doc 3"]
    assert store.get([]) == []
    assert store.get(iter(["doc 1"])) == records(1, first=1)


@pytest.mark.parametrize("size", [1, 7, 10])
def test_pages_show_every_record_once(home, size: int) -> None:
    store, reference = home.open(), home.reference()
    for some in (records(12), records(8, first=12)):
        store.upsert(some, made(len(some)))
        reference.upsert(some, made(len(some)))
    check_contents(store, reference, size)
    for where in ({"side": "pro"}, {"number": {"$lt": 7}}, {"side": "neither"}):
        pages = list(store.scroll(filter=where, size=size))
        assert sorted(r.id for page in pages for r in page.records) == reference.matching(where)
        assert all(1 <= len(page.records) <= size and page.output is None for page in pages)


def test_the_last_page_says_so(home) -> None:
    store = home.open()
    store.upsert(records(20), made(20))
    seen, start = [], None
    for turn in range(2):
        page = store.page(start=start, size=10, with_vectors=True)
        seen += [record.id for record in page.records]
        start = page.next
        assert (start is None) == (turn == 1)
        for record, vectors in zip(page.records, page.output, strict=True):
            check_vectors(part(vectors, ["dense"]), part(made(20)[record.metadata["number"]], ["dense"]))
    assert sorted(seen) == sorted(record.id for record in records(20))
    assert store.page(size=20).next is None


def test_records_that_are_deleted_meanwhile_hide_no_others(home) -> None:
    store = home.open()
    store.upsert(records(30), made(30))
    seen = []
    for page in store.scroll(size=5):
        seen += [record.id for record in page.records]
        store.delete([record.id for record in page.records])
    assert sorted(seen) == sorted(record.id for record in records(30))
    assert store.count() == 0


def test_count_is_that_of_the_filter(home) -> None:
    store = home.open()
    store.upsert(records(30), made(30))
    for where in ({}, {"side": "pro"}, {"number": {"$gte": 7, "$lt": 9}}, {"$not": {"side": "con"}}, {"nothing": 1}):
        assert store.count(where) == sum(matches(where, record.metadata) for record in records(30)), where


def test_delete_by_ids_and_by_filter(home) -> None:
    store, reference = home.open(), home.reference()
    store.upsert(records(12), made(12))
    reference.upsert(records(12), made(12))
    for options, gone in [
        ({"ids": ["doc 0", "doc 0", "missing"]}, ["doc 0"]),
        ({"ids": []}, []),
        ({"filter": {"side": "pro"}}, [f"doc {n}" for n in range(1, 12, 2)]),
        ({"filter": {"side": "pro"}}, []),
        ({"filter": {"$or": [{"number": 2}, {"number": {"$gt": 9}}]}}, ["doc 2", "doc 10"]),
    ]:
        store.delete(**options)
        reference.delete(gone)
        check_contents(store, reference)
        check_search(store, reference, made(2, seed=1), rerank=True)
    assert store.upsert(records(2), made(2)) == ["doc 0", "doc 1"]


@pytest.mark.parametrize("reopened", [False, True])
def test_clear_leaves_the_collection_as_it_is(home, reopened: bool) -> None:
    if reopened and not home.kind.lasting:
        pytest.skip("a temporary collection goes with its store")
    store = home.open()
    store.upsert(records(5), made(5))
    schema = store.schema
    store.clear()
    if reopened:
        store.close()
        store = home.open()
    assert (store.schema, store.count(), store.get(["doc 1"])) == (schema, 0, [])
    assert store.search(made(1), rerank=True) == [[]]
    with pytest.raises(CollectionMismatch, match="encode with modes="):
        store.upsert(records(1), made(1, modes=["dense"]))
    assert store.upsert(records(2), made(2)) == ["doc 0", "doc 1"]
    assert len(store.search(made(1), rerank=True)[0]) == 2


@pytest.mark.parametrize("reopened", [False, True])
def test_drop_makes_room_for_another(home, reopened: bool) -> None:
    if reopened and not home.kind.lasting:
        pytest.skip("a temporary collection goes with its store")
    store, reference = home.open(), home.reference()
    store.upsert(records(5), made(5))
    store.drop()
    store.drop()
    if reopened:
        store.close()
        store = home.open()
    assert (store.schema, store.modes, store.count(), store.search(made(1))) == (None, (), 0, [[]])
    output = made(3, seed=3, modes=["sparse", "multivector"], made_by=fingerprint("another"))
    assert store.upsert(records(3), output) == reference.upsert(records(3), output)
    assert store.modes == ("sparse", "multivector")
    check_contents(store, reference)
    check_search(store, reference, replace(output, score_weights=(0, 1, 1)), rerank=True)


@pytest.mark.parametrize("modes", [["dense"], ["sparse"], ["multivector"], ["dense", "sparse"], ALL])
def test_a_collection_has_the_modes_of_its_first_output(home, modes: list[Mode]) -> None:
    store, reference = home.open(), home.reference()
    output = made(20, modes=modes, empty=True)
    assert store.upsert(records(20), output) == reference.upsert(records(20), output)
    if home.kind.lasting:
        store.close()
        store = home.open()
    assert store.modes == tuple(modes)
    check_contents(store, reference)
    for options in ({}, {"filter": {"side": "pro"}, "k": 3, "candidates": 4}):
        check_search(store, reference, made(2, seed=1), **options)
    for mode in set(ALL) - set(modes):
        with pytest.raises(UnsupportedMode, match=f"has no {mode} representations; it has"):
            store.search(made(1), modes=[mode])
    if "dense" not in modes:
        with pytest.raises(UnsupportedMode, match="mmr compares dense vectors"):
            store.search(made(1), mmr=0.5)


def test_equal_scores_go_by_id(home) -> None:
    store, one = home.open(), made(1)
    store.upsert([Record(i, "same") for i in "cabd"], M3Output.concat([one] * 4))
    for options in ({}, {"rerank": True}, {"modes": ["sparse"]}, {"modes": ["dense"]}):
        assert [hit.id for hit in store.search(one, k=3, **options)[0]] == ["a", "b", "c"]


def test_texts_and_queries_may_have_no_tokens(home) -> None:
    store, reference = home.open(), home.reference()
    output = replace(made(4), sparse=[SparseVector([], []), *made(4).sparse[1:]])
    assert store.upsert(records(4), output) == reference.upsert(records(4), output)
    query = replace(made(1, seed=1), sparse=[SparseVector([], [])])
    (hits,) = check_search(store, reference, query)
    assert [hit.scores["sparse"] for hit in hits] == [0.0] * 4
    assert store.search(query, modes=["sparse"]) == [[]]
    check_search(store, reference, output, modes=["sparse"])


def test_what_was_written_is_there_after_a_restart(home) -> None:
    if not home.kind.lasting:
        pytest.skip("a temporary collection goes with its store")
    store, reference = home.open(), home.reference()
    for seed in range(2):
        store.upsert(records(9, first=5 * seed), made(9, seed=seed))
        reference.upsert(records(9, first=5 * seed), made(9, seed=seed))
        store.delete([f"doc {seed}"])
        reference.delete([f"doc {seed}"])
        schema = store.schema
        store.close()
        store = home.open()
        assert store.schema == schema
        check_contents(store, reference)
        check_search(store, reference, made(2, seed=9), rerank=True)
        assert store.upsert(records(1, first=5 * seed + 8), made(9, seed=seed)[8]) == []


def test_collections_beside_each_other_are_apart(home, place) -> None:
    one, (_, opens) = home.open(), place
    with opens(f"{home.name}-other") as other:
        one.upsert(records(3), made(3))
        other.upsert(records(2), made(2, modes=["dense"]))
        assert (one.count(), other.count(), one.modes, other.modes) == (3, 2, ALL, ("dense",))
        other.drop()
        assert len(one.search(made(1), rerank=True)[0]) == one.count() == 3


def test_threads_share_a_store(home) -> None:
    store, reference, errors = home.open(), home.reference(), []
    batches = [(records(4, first=4 * n), made(4, seed=n)) for n in range(16)]

    def work(mine: list) -> None:
        try:
            for some, output in mine:
                store.upsert(some, output)
                assert [hits[0].id for hits in store.search(output, k=1, rerank=True)] == [r.id for r in some]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(batches[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for some, output in batches:
        reference.upsert(some, output)
    check_contents(store, reference)


def test_a_closed_store_says_so(home) -> None:
    with home.open() as store:
        store.upsert(records(1), made(1))
    store.close()
    assert repr(store).startswith(
        f"{type(store).__name__}({home.name!r}, " if home.kind.lasting else type(store).__name__
    )
    for call in (
        store.count,
        store.clear,
        store.drop,
        store.page,
        lambda: store.schema,
        lambda: store.modes,
        lambda: list(store.scroll()),
        lambda: store.get(["a"]),
        lambda: store.vectors(["a"], "dense"),
        lambda: store.delete(["a"]),
        lambda: store.search(made(1)),
        lambda: store.upsert(records(1), made(1)),
        lambda: store.add_modes(["sparse"], made),
    ):
        with pytest.raises(StoreError, match="closed: open a new"):
            call()
