"""The async twins of every kind of store do what the blocking operations do."""

import asyncio

import pytest
from store_checks import check_contents, check_hits, exact
from store_reference import ALL, made, part
from vectors import records

from m3core import CollectionMismatch, InvalidInput, StoreError


async def test_every_operation_has_a_twin(home) -> None:
    store, reference = home.open(), home.reference()
    output, queries = made(70), made(3, seed=1)
    reference.upsert(records(70), output)
    where = {"side": "pro"}

    assert await store.acount() == 0
    assert await store.asearch(queries) == [[], [], []]
    assert [page async for page in store.ascroll()] == []
    assert await store.aupsert(records(70), part(output, ["dense"])) == list(reference.records)
    assert await store.aupsert(records(70), part(output, ["dense"])) == []
    await store.aadd_modes(["sparse", "multivector"], lambda some: made_of(some, output))
    assert store.modes == ALL
    await asyncio.to_thread(check_contents, store, reference)

    await store.adelete(["doc 0", "missing"])
    await store.adelete(filter={"number": {"$gt": 64}})
    reference.delete(["doc 0", *(f"doc {n}" for n in range(65, 70))])
    assert await store.acount() == store.count() == len(reference.records)
    assert await store.acount(where) == store.count(where) == len(reference.matching(where))
    ids = ["doc 3", "missing", "doc 1"]
    assert list(map(exact, await store.aget(ids))) == list(map(exact, store.get(ids)))

    for mode in ALL:
        assert str(await store.avectors(ids, mode)) == str(store.vectors(ids, mode))

    some = [*records(3, first=64), *records(1, first=900)]
    assert await store.acompare(some) == store.compare(some)
    assert store.compare(some).new == 3
    page, twin = store.page(size=9, filter=where), await store.apage(size=9, filter=where)
    assert (page.records, page.next is None) == (twin.records, twin.next is None)
    pages = [page async for page in store.ascroll(size=9, filter=where, with_vectors=True)]
    for page, twin in zip(store.scroll(size=9, filter=where, with_vectors=True), pages, strict=True):
        assert (page.records, page.next is None) == (twin.records, twin.next is None)
        assert (page.output.dense == twin.output.dense).all()
        for mode in ("sparse", "multivector"):
            assert str(getattr(page.output, mode)) == str(getattr(twin.output, mode))

    for options in (
        {},
        {"rerank": True, "k": 3},
        {"filter": where, "mmr": 0.5},
        {"ids": ids},
        {"modes": ["sparse"], "k": 100},
    ):
        found = await store.asearch(queries, **options)
        assert found == store.search(queries, **options)
        for query, hits in zip(queries, found, strict=True):
            check_hits(hits, reference, reference.pool(query, **options), **options)

    await store.aclear()
    assert (store.count(), store.modes) == (0, ALL)
    await store.adrop()
    assert store.schema is None
    assert await store.aupsert(records(2), part(made(2), ["sparse"])) == ["doc 0", "doc 1"]
    assert store.modes == ("sparse",)
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreError, match="closed: open a new"):
        await store.acount()
    with pytest.raises(StoreError, match="closed: open a new"):
        await store.asearch(queries)
    with pytest.raises(StoreError, match="closed: open a new"):
        await store.aupsert(records(1), part(made(1, seed=1), ["sparse"]))


def made_of(some, output):
    return part(output[[record.metadata["number"] for record in some]], ["sparse", "multivector"])


async def test_what_a_store_refuses_its_twins_refuse(home) -> None:
    async with home.open() as store:
        await store.aupsert(records(3), made(3))
        broken = made(3, seed=1)
        broken.dense[1, 0] = float("nan")
        with pytest.raises(InvalidInput, match="'doc 1'"):
            await store.aupsert(records(3), broken)
        with pytest.raises(CollectionMismatch, match="of no known encoder"):
            await store.asearch(made(1, made_by=None))
        with pytest.raises(InvalidInput, match="either ids or a filter"):
            await store.adelete()
        with pytest.raises(InvalidInput, match="k must be"):
            await store.asearch(made(1), k=0)
        assert await store.acount() == 3
    with pytest.raises(StoreError, match="closed: open a new"):
        store.count()


async def test_many_at_once(home) -> None:
    store, reference = home.open(), home.reference()
    batches = [(records(5, first=5 * n), made(5, seed=n)) for n in range(10)]
    await store.aupsert(*batches[0])
    await asyncio.gather(*(store.aupsert(*batch) for batch in batches))
    for batch in batches:
        reference.upsert(*batch)
    found = await asyncio.gather(*(store.asearch(output, k=1, rerank=True) for _, output in batches))
    assert [[hits[0].id for hits in one] for one in found] == [[r.id for r in some] for some, _ in batches]
    await asyncio.to_thread(check_contents, store, reference)
    await store.aclose()


def test_each_event_loop_may_use_a_store(home) -> None:
    store = home.open()
    store.upsert(records(3), made(3))
    for _ in range(2):
        assert asyncio.run(store.acount()) == 3
