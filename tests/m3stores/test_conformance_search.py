"""Every kind of store finds what the brute-force reference finds, in each configuration of a search."""

from collections.abc import Iterator

import numpy as np
import pytest
from store_checks import check_contents, check_search, exact
from store_kinds import Kind, Open, unique_name
from store_reference import ALL, Reference, made

from m3core import Record
from m3stores import DBSF, RRF, HybridStore, WeightedSum

Filled = tuple[HybridStore, Reference]


def named(*numbers: int) -> list[str]:
    """The ids of records."""
    return [f"文 {number * 7919 % 10007}" for number in numbers]


CONFIGURATIONS = {
    "dense": {"modes": ["dense"]},
    "sparse": {"modes": ["sparse"]},
    "hybrid": {},
    "hybrid+rerank": {"rerank": True},
}
OPTIONS = {
    "by default": {},
    "few candidates": {"k": 5, "candidates": 7},
    "as few as can be": {"k": 1, "candidates": 1},
    "more than there are": {"k": 400, "candidates": 400},
    "text filter": {"filter": {"side": "pro"}},
    "number filter": {"k": 20, "candidates": 20, "filter": {"number": {"$gte": 40, "$lt": 200}}},
    "filter of lists": {"filter": {"$or": [{"tags": "t1"}, {"$not": {"year": {"$exists": True}}}]}},
    "filter of one": {"filter": {"number": 17}},
    "filter of none": {"filter": {"side": "neither"}},
    "some ids": {"ids": [*named(*range(0, 300, 7)), "missing"], "k": 20, "candidates": 21},
    "one id, twice": {"ids": named(17, 17)},
    "ids, of which a filter matches some": {"ids": named(*range(40)), "filter": {"side": "pro"}, "candidates": 11},
    "ids, of which a filter matches none": {"ids": named(16, 18), "filter": {"side": "pro"}},
    "ids that are not there": {"ids": ["missing", "", "x" * 500, "7"]},
    "no ids": {"ids": []},
    "weighted sum": {"fusion": WeightedSum(0.2, 1.5, 0.7)},
    "RRF": {"fusion": RRF(), "k": 30},
    "weighted RRF, few candidates": {"fusion": RRF(10, (1, 2, 3)), "k": 8, "candidates": 9},
    "DBSF": {"fusion": DBSF()},
    "DBSF, filter": {"fusion": DBSF(), "filter": {"side": {"$ne": "pro"}}, "k": 7},
    "MMR": {"mmr": 0.5, "k": 12},
    "MMR, only what differs": {"mmr": 0.0, "k": 12, "candidates": 20},
    "MMR, only relevance": {"mmr": 1.0},
    "MMR by RRF": {"mmr": 0.6, "fusion": RRF(5), "filter": {"side": "con"}},
    "MMR among ids": {"mmr": 0.5, "ids": named(*range(100, 160))},
    "MMR by DBSF": {"mmr": 0.4, "fusion": DBSF(), "k": 6},
}


def record(number: int) -> Record:
    metadata = {"number": number, "side": "pro" if number % 2 else "con", "tags": [f"t{number % 4}", "all"]}
    if number % 3:
        metadata["year"] = 2000.5 + number % 7
    return Record(*named(number), f"text {number}", metadata)


def filled(place: tuple[Kind, Open], n: int) -> Iterator[Filled]:
    kind, opens = place
    store, reference = opens(unique_name()), Reference(kind.half, kind.half_queries)
    with store:
        records, output = [record(number) for number in range(n)], made(n, seed=n, empty=True)
        assert store.upsert(records, output) == reference.upsert(records, output)
        yield store, reference
        store.drop()


@pytest.fixture(scope="session")
def small(place: tuple[Kind, Open]) -> Iterator[Filled]:
    yield from filled(place, 300)


@pytest.fixture(scope="session")
def large(place: tuple[Kind, Open]) -> Iterator[Filled]:
    yield from filled(place, 2100)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_search_is_that_of_the_reference(small: Filled, configuration: str, options: str) -> None:
    check_search(*small, made(2, seed=7), **CONFIGURATIONS[configuration], **OPTIONS[options])


@pytest.mark.parametrize("modes", [["multivector"], ["multivector", "dense"], ["sparse", "multivector"], list(ALL)])
def test_multi_vectors_may_propose_candidates(small: Filled, modes: list) -> None:
    for options in ({}, {"ids": named(*range(50))}, {"ids": named(*range(50)), "filter": {"side": "con"}}):
        check_search(*small, made(2, seed=8), modes=modes, k=8, candidates=9, **options)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("mmr", [None, 0.5])
def test_a_threshold_leaves_out_what_scores_less(small: Filled, configuration: str, mmr: float | None) -> None:
    store, reference = small
    query, options = made(1, seed=9), CONFIGURATIONS[configuration]
    scores = np.sort(reference.pool(query, **options).fused)[::-1]
    for kept in (1, 6):
        (hits,) = check_search(
            store, reference, query, score_threshold=float(scores[kept - 1 : kept + 1].mean()), mmr=mmr, **options
        )
        assert len(hits) == kept
    assert check_search(store, reference, query, score_threshold=1e6, mmr=mmr, **options) == [[]]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_among_2100_records_too(large: Filled, configuration: str) -> None:
    queries, options = made(2, seed=10), CONFIGURATIONS[configuration]
    check_search(*large, queries, k=20, **options)
    check_search(*large, queries, k=10, candidates=10, filter={"number": {"$lt": 1500}, "tags": "t2"}, **options)
    ids = named(*range(100, 5000))  # those from 2100 on are not there
    check_search(*large, queries, k=10, candidates=10, ids=ids, **options)
    check_search(*large, queries, k=10, candidates=10, ids=ids, filter={"number": {"$lt": 1500}}, **options)


def test_2100_records_are_all_there(large: Filled) -> None:
    store, reference = large
    check_contents(store, reference, size=1500)
    wanted = list(reference.records.values())
    assert list(map(exact, store.get([record.id for record in wanted]))) == list(map(exact, wanted))
    assert store.count({"number": {"$gte": 1000}}) == 1100


def test_many_queries_at_once_are_searched_as_one_by_one(small: Filled) -> None:
    store, _ = small
    queries = made(12, seed=11)
    together = store.search(queries, k=3, rerank=True)
    assert together == [store.search(query, k=3, rerank=True)[0] for query in queries]
    assert store.search(queries[:0]) == []
