"""Filters of the embedded Qdrant engine, cut where an event loop waits: the same answers as in one piece."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from vectors import random_output, records

from m3core import InvalidInput
from m3stores import QdrantSettings, QdrantStore
from m3stores.qdrant import edge, slices
from m3stores.qdrant.edge_models import EdgeModels

N = 300
FILTERS = [
    {"side": "pro"},
    {"number": {"$lt": 7}},
    {"number": {"$gte": 0}},
    {"number": -1},
    {"$or": [{"number": {"$lt": 40}}, {"$not": {"side": "con"}}]},
]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Slices of few records, and few that are searched by their ids. Collects the slices that were asked for."""
    monkeypatch.setattr(slices, "_RECORDS", 9)
    monkeypatch.setattr(edge, "_FEW", 20)
    made: list[Any] = []
    of_parts = EdgeModels.of_parts
    monkeypatch.setattr(EdgeModels, "of_parts", lambda *given: made.append(1) or of_parts(*given))
    return made


@pytest.fixture
def store() -> Iterator[QdrantStore]:
    with QdrantStore("test", settings=QdrantSettings(indexed={"kind": "keyword"})) as opened:
        opened.upsert(records(N), random_output(N))
        yield opened


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("options", [{}, {"rerank": True}, {"modes": ["multivector"]}, {"mmr": 0.5, "k": 5}])
async def test_a_search_finds_the_same(store: QdrantStore, cut: list[Any], filter: dict, options: dict) -> None:
    queries = random_output(3, seed=1)
    assert await store.asearch(queries, filter=filter, **options) == store.search(queries, filter=filter, **options)
    assert len(cut) > 10


@pytest.mark.parametrize("filter", FILTERS)
async def test_counting_and_listing_find_the_same(store: QdrantStore, cut: list[Any], filter: dict) -> None:
    assert await store.acount(filter) == store.count(filter)
    expected = {r.id for page in store.scroll(filter=filter) for r in page.records}
    for size in (1, 7, 1000):
        found = [r.id async for page in store.ascroll(filter=filter, size=size) for r in page.records]
        assert len(found) == len(expected)
        assert set(found) == expected
    assert len(cut) > 10


async def test_deleting_removes_the_same(store: QdrantStore, cut: list[Any]) -> None:
    await store.adelete(filter={"number": {"$gte": 10}})
    assert sorted(r.metadata["number"] for page in store.scroll() for r in page.records) == list(range(10))
    assert len(cut) > 10


async def test_a_listing_goes_on_where_it_stopped_though_records_come(store: QdrantStore, cut: list[Any]) -> None:
    first = await store.apage(filter={"side": "pro"}, size=40)
    store.upsert(records(N, first=N), random_output(N, seed=2))
    rest = [first]
    while rest[-1].next is not None:
        rest.append(await store.apage(filter={"side": "pro"}, size=40, start=rest[-1].next))
    found = [r.metadata["number"] for page in rest for r in page.records]
    assert len(found) == len(set(found))
    assert {n for n in range(N) if n % 2} <= set(found)
    assert store.page(filter={"side": "pro"}, start=first.next).records  # in one piece, by the same place
    with pytest.raises(InvalidInput, match="start must be"):
        await store.apage(filter={"side": "pro"}, start="a:b")


async def test_what_an_index_or_ids_answer_is_not_cut(store: QdrantStore, cut: list[Any]) -> None:
    queries = random_output(1)
    await store.asearch(queries)
    await store.asearch(queries, filter={"kind": "none"})
    await store.asearch(queries, filter={"side": "pro"}, ids=["doc 1", "doc 2"])
    assert await store.acount() == N
    store.search(queries, filter={"side": "pro"})
    assert cut == []


async def test_the_engines_own_filters_are_cut_too(store: QdrantStore, cut: list[Any]) -> None:
    from qdrant_edge import FieldCondition, Filter, RangeFloat

    own = Filter(must=[FieldCondition("metadata.number", range=RangeFloat(lt=150))])
    assert await store.acount(own) == 150
    assert len(cut) > 10


async def test_searches_at_once_are_right(store: QdrantStore, cut: list[Any]) -> None:
    queries = random_output(1, seed=3)
    expected = [store.search(queries, filter=filter) for filter in FILTERS]
    assert await asyncio.gather(*(store.asearch(queries, filter=filter) for filter in FILTERS)) == expected
