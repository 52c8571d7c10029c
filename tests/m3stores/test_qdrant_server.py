"""`QdrantStore` on a server, through the stand-in: what it makes there, and what it does in all sorts of trouble."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

from counting import counted_ticks
from filtering import filters, metadatas
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from qdrant_client import models as m
from qdrant_standin.serving import Serving
from vectors import KNOWN, random_output, records

from m3core import InvalidInput, M3Output
from m3stores import QdrantStore, Record
from m3stores.qdrant.layout import QdrantSettings

N = 30


@pytest.fixture
def store(server: Serving) -> Iterator[QdrantStore]:
    with server.store() as store:
        store.upsert(records(N), random_output(N))
        yield store


def shown(server: Serving, collection: str = "test") -> m.CollectionInfo:
    with server.client() as client:
        return client.get_collection(collection)


def test_a_new_collection(server: Serving) -> None:
    with server.store() as store:
        assert store.modes == ()
        store.upsert(records(3), random_output(3))
        schema = store.schema
    config = shown(server).config
    assert set(config.params.vectors) == {"dense", "multivector"}
    dense, multi = config.params.vectors["dense"], config.params.vectors["multivector"]
    assert (dense.size, dense.distance, dense.on_disk, dense.quantization_config) == (16, m.Distance.DOT, None, None)
    assert (multi.size, multi.distance, multi.on_disk, multi.datatype) == (8, m.Distance.DOT, True, m.Datatype.FLOAT16)
    assert multi.multivector_config.comparator == m.MultiVectorComparator.MAX_SIM
    assert multi.hnsw_config.m == 0
    assert set(config.params.sparse_vectors) == {"sparse"}
    assert config.params.sparse_vectors["sparse"].modifier is None
    assert config.metadata["m3"]["fingerprint"]["model"] == KNOWN.model
    with server.store() as again:
        assert again.schema == schema
        assert again.schema.fingerprint == KNOWN


def test_a_collection_has_the_vectors_of_its_modes(server: Serving) -> None:
    with server.store() as store:
        for modes in [("dense",), ("sparse",), ("multivector",), ("dense", "sparse")]:
            store.upsert(records(3), random_output(3, modes=modes))
            assert len(store.search(random_output(1, modes=modes), modes=modes)[0]) >= 1
            params = shown(server).config.params
            assert {*(params.vectors or {}), *(params.sparse_vectors or {})} == set(modes)
            store.drop()


def test_settings_reach_the_server(server: Serving) -> None:
    chosen = QdrantSettings(
        quantization="int8",
        multivector_type="turbo4",
        on_disk=True,
        indexed={"year": "integer", "by.name": "keyword"},
        shards=2,
        replicas=3,
        write_consistency=2,
    )
    with server.store(settings=chosen) as store:
        store.upsert([Record("a", "text", {"year": 1990, "by": {"name": "x"}})], random_output(1))
        assert store.count({"year": 1990, "by.name": "x"}) == 1
        assert [hit.id for hit in store.search(random_output(1), rerank=True)[0]] == ["a"]
    info = shown(server)
    params = info.config.params
    scalar = params.vectors["dense"].quantization_config.scalar
    assert (params.vectors["dense"].on_disk, scalar.type, scalar.always_ram) == (True, m.ScalarType.INT8, True)
    assert params.vectors["multivector"].datatype == m.Datatype.TURBO4
    assert params.sparse_vectors["sparse"].index.on_disk
    assert (params.shard_number, params.replication_factor, params.write_consistency_factor) == (2, 3, 2)
    kinds = {name: index.data_type.value for name, index in info.payload_schema.items()}
    assert kinds == {'metadata."year"': "integer", 'metadata."by"."name"': "keyword"}

    with server.store("turbo", settings=QdrantSettings(quantization="turbo4")) as store:
        store.upsert(records(1), random_output(1))
    turbo = shown(server, "turbo").config.params.vectors["dense"].quantization_config.turbo
    assert (turbo.bits, turbo.always_ram) == (m.TurboQuantBitSize.BITS4, True)


def test_what_a_server_is_for_is_refused_without_one(tmp_path: Path, server: Serving) -> None:
    for options in ({"adopt": True}, {"api_key": "x"}, {"prefer_grpc": True}, {"settings": QdrantSettings(shards=2)}):
        with pytest.raises(InvalidInput, match="give its url"):
            QdrantStore("test", **options)
    with pytest.raises(InvalidInput, match="either a path or a url"):
        server.store(path=tmp_path)
    with server.store() as store, pytest.raises(InvalidInput, match="by itself"):
        store.optimize()


def expected(queries: M3Output) -> list[dict[str, float]]:
    return [{f"doc {i}": s for i, s in enumerate(row)} for row in queries.score(random_output(N)).tolist()]


def test_hits_have_the_papers_scores(store: QdrantStore) -> None:
    queries = random_output(3, seed=1)
    for hits, scores in zip(store.search(queries, k=N, candidates=N, rerank=True), expected(queries), strict=True):
        assert {hit.id: hit.score for hit in hits} == pytest.approx(scores, abs=1e-4)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    (page,) = store.scroll(size=N, with_vectors=True)
    assert sorted(page.records, key=lambda r: r.metadata["number"]) == records(N)
    order = [r.metadata["number"] for r in page.records]
    assert page.output.dense == pytest.approx(random_output(N)[order].dense, abs=1e-6)


def test_every_operation_has_an_async_twin_without_threads(server: Serving, monkeypatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(asyncio, "to_thread", None)
        store = server.store()
        assert len(await store.aupsert(records(N), random_output(N))) == N
        queries = random_output(3, seed=1)
        hits = await store.asearch(queries, k=5, rerank=True, mmr=0.7)
        assert hits == store.search(queries, k=5, rerank=True, mmr=0.7)
        assert await store.aget(["doc 3", "none"]) == records(1, first=3)
        assert await store.acount({"side": "pro"}) == N // 2
        assert (await store.apage(size=2)).records == store.page(size=2).records
        assert [len(page.records) async for page in store.ascroll(size=20)] == [20, 10]
        await store.adelete(["doc 1"])
        await store.adelete(filter={"number": {"$gte": 20}})
        assert store.count() == 19
        await store.aclear()
        assert (await store.acount(), store.modes) == (0, ("dense", "sparse", "multivector"))
        await store.adrop()
        assert store.schema is None
        monkeypatch.undo()
        await store.aclose()

    asyncio.run(work())


def test_many_queries_among_many_ids_fit_into_requests(server: Serving, store: QdrantStore) -> None:
    queries, ids = random_output(16, seed=1), [f"doc {n}" for n in range(10_000)]
    assert store.search(queries, ids=ids) == store.search(queries)
    assert server.largest < 10 << 20


async def test_the_event_loop_stays_free(server: Serving, store: QdrantStore) -> None:
    await store.acount()
    server.order("query", delay=0.2)
    async with counted_ticks() as ticks:
        await store.asearch(random_output(1))
    assert ticks.count > 5


def test_a_store_outlives_its_event_loops(store: QdrantStore) -> None:
    async def work(seed: int) -> int:
        await asyncio.gather(*(store.asearch(random_output(1, seed=seed)) for seed in range(seed, seed + 4)))
        return await store.acount()

    assert [asyncio.run(work(seed)) for seed in (1, 2, 3)] == [N] * 3
    assert store.count() == N


def test_modes_are_added(server: Serving) -> None:
    with server.store() as store:
        store.upsert(records(N), random_output(N, modes=("dense",)))
        encode = lambda some: random_output(N)[[r.metadata["number"] for r in some]]  # noqa: E731
        server.order("add vector", drop="after")  # it is there when it is asked for again
        store.add_modes(["sparse", "multivector"], encode)
        queries = random_output(1, seed=1)
        (hits,) = store.search(queries, k=N, candidates=N, rerank=True)
        assert {hit.id: hit.score for hit in hits} == pytest.approx(expected(queries)[0], abs=1e-4)
    multi = shown(server).config.params.vectors["multivector"]
    assert (multi.datatype, multi.on_disk, multi.hnsw_config.m) == (m.Datatype.FLOAT16, True, 0)
    with server.store() as again:
        assert again.modes == ("dense", "sparse", "multivector")


def test_an_old_server_cannot_add_modes(server: Serving) -> None:
    with server.store() as store:
        store.upsert(records(3), random_output(3, modes=("dense",)))
        server.order("add vector", status=404)
        with pytest.raises(InvalidInput, match=r"'sparse', which takes Qdrant 1\.18 or later"):
            store.add_modes(["sparse"], lambda some: random_output(len(some)))
        assert store.modes == ("dense",)
        assert store.count() == 3


@given(kept=st.lists(metadatas, min_size=1, max_size=6), wanted=filters)
@example(kept=[{"a": "x"}, {"a": 1}], wanted={"a": {"$in": ["x", "x", 1, True]}})
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_filters_mean_the_same_as_embedded(both: tuple[QdrantStore, QdrantStore], kept: list, wanted: dict) -> None:
    found = []
    for store in both:
        store.clear()
        store.upsert([Record(f"{i}", "", metadata) for i, metadata in enumerate(kept)], random_output(len(kept)))
        found.append(sorted(r.id for page in store.scroll(filter=wanted) for r in page.records))
        assert store.count(wanted) == len(found[-1])
    assert found[0] == found[1]


@pytest.fixture
def both(server: Serving) -> Iterator[tuple[QdrantStore, QdrantStore]]:
    with server.store("filters") as there, QdrantStore("filters") as here:
        yield there, here


def test_the_clients_own_filter_passes_through(store: QdrantStore) -> None:
    own = m.Filter(must=[m.FieldCondition(key="metadata.number", range=m.Range(lt=3))])
    assert store.count(own) == 3
    assert {hit.metadata["number"] for hit in store.search(random_output(1), filter=own)[0]} == {0, 1, 2}
    store.delete(filter=own)
    assert store.count() == N - 3
