"""`QdrantStore` on a server that fails, or is busy; large requests, many threads, and the end. Through the stand-in."""

import asyncio
import gc
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

from processes import forks, in_a_fork
from qdrant_standin.serving import Serving, serving
from vectors import WEIGHTS, random_output, records, unit

from m3core import CollectionMismatch, InvalidInput, M3Output, StoreError
from m3stores import QdrantStore, Record
from m3stores.qdrant import calls
from m3stores.qdrant.layout import QdrantSettings

N = 30


@pytest.fixture
def store(server: Serving) -> Iterator[QdrantStore]:
    with server.store() as store:
        store.upsert(records(N), random_output(N))
        yield store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_LONGEST_PAUSE", 0.001)


TROUBLE: list[dict[str, Any]] = [
    {"status": 503, "times": 2},
    {"status": 429},
    {"drop": "before"},
    {"drop": "after"},
    {"truncate": True},
]


def test_passing_trouble_passes(server: Serving, impatient) -> None:
    """Whether it comes before or after a request has been acted on: nothing is lost, and nothing is there twice."""
    with server.store() as store:
        for n, trouble in enumerate(TROUBLE):
            asked = len(server.requests("upsert"))
            for call in ("create", "upsert", "query", "delete"):
                server.order(call, **trouble)
            store.upsert(records(N), random_output(N, seed=n))
            store.delete(["doc 0"])
            assert store.count() == N - 1
            assert len(store.search(random_output(1), k=5)[0]) == 5
            assert len(server.requests("upsert")) - asked == 1 + trouble.get("times", 1)
            store.drop()


async def test_passing_trouble_passes_async(server: Serving, impatient) -> None:
    async with server.store() as store:
        for n, trouble in enumerate(TROUBLE):
            for call in ("create", "upsert", "query", "delete"):
                server.order(call, **trouble)
            await store.aupsert(records(N), random_output(N, seed=n))
            await store.adelete(["doc 0"])
            assert await store.acount() == N - 1
            assert len((await store.asearch(random_output(1), k=5))[0]) == 5
            await store.adrop()


def test_a_busy_server_says_when_to_come_again(server: Serving, store: QdrantStore) -> None:
    server.order("count", status=429, retry_after=1)
    start = time.perf_counter()
    assert store.count() == N
    assert 1 <= time.perf_counter() - start < 4


def test_a_late_answer_is_not_waited_for(server: Serving, store: QdrantStore) -> None:
    with server.store(timeout=1) as store:
        server.order("count", delay=1.5)
        assert store.count() == N
        assert len(server.requests("count")) >= 2


def test_lasting_trouble_is_told(server: Serving, store: QdrantStore, impatient) -> None:
    for trouble, reason in [
        ({"status": 503}, "failed 5 times, at last with: A fault to order"),
        ({"status": 429, "retry_after": 1}, "failed 5 times, at last with: A fault to order"),
        ({"drop": "before"}, "5 "),
        ({"truncate": True}, "5 "),
    ]:
        asked = len(server.requests("count"))
        server.order("count", **trouble, times=5)
        with pytest.raises(StoreError, match=f"{server.rest.url} .*{reason}"):
            store.count()
        assert len(server.requests("count")) - asked == 5
        assert store.count() == N  # the store is as good as before


def test_what_a_server_does_not_take_is_told_at_once(server: Serving, store: QdrantStore) -> None:
    server.order("count", status=400)
    with pytest.raises(InvalidInput, match=f"{server.rest.url} does not take this: A fault to order"):
        store.count()
    assert len(server.requests("count")) == 1
    with pytest.raises(InvalidInput, match="does not take this"):
        store.page(start="no page begins here")
    assert store.count() == N


@pytest.mark.parametrize("grpc", [False, True])
def test_no_server_at_all(impatient, grpc: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(StoreError, match=rf"(?s)http://127.0.0.1:{port} .*(refused|connect)"):
            QdrantStore("test", url=f"http://127.0.0.1:{port}", grpc_port=port, prefer_grpc=grpc, timeout=2)


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_api_key(protocol: str) -> None:
    with serving(protocol, api_key="secret") as server:
        for wrong in (None, "guess"):
            with pytest.raises(StoreError, match=f"{server.rest.url} refuses .*give the right api_key"):
                server.store(api_key=wrong)
        with server.store(api_key="secret") as store:
            store.upsert(records(3), random_output(3))
            assert asyncio.run(store.acount()) == 3


def wide(n: int, rows: int, dim: int = 128) -> M3Output:
    rng = np.random.default_rng(0)
    return M3Output(unit(rng, n, 1024), None, [unit(rng, rows, dim) for _ in range(n)], WEIGHTS, None)


def test_requests_stay_small(server: Serving) -> None:
    """A server takes 32 MB, and each of these records is 160 kB."""
    n = 600 if server.grpc else 80
    with server.store() as store:
        store.upsert(records(n), wide(n, 50))
        assert store.count() == n
        assert len(server.requests("upsert")) >= 2
        store.search(wide(24, 200), k=1, rerank=True)
    assert server.largest < 10 << 20


def test_long_texts_and_metadata_count_too(server: Serving) -> None:
    long = [Record(f"{i}", "长" * 200_000, {"more": ["\0" * 100_000]}) for i in range(24)]
    with server.store() as store:
        store.upsert(long, random_output(24))
        assert store.get(["7"]) == [long[7]]
        assert server.largest < 10 << 20
        before = server.largest
        for huge in (Record("huge", "x" * (33 << 20)), Record("huge", "", {"more": "x" * (33 << 20)})):
            with pytest.raises(InvalidInput, match="the text and metadata of record 'huge' take more than 8 MB"):
                store.upsert([huge], random_output(1))
        assert server.largest == before


def test_the_largest_multivector(server: Serving) -> None:
    with server.store() as store:
        with pytest.raises(InvalidInput, match="1024 rows of 1024 numbers"):
            store.upsert(records(2), M3Output(None, None, [np.ones((r, 1024), np.float32) for r in (1, 1024)]))
        assert server.requests("create") == server.requests("upsert") == []
        store.upsert(records(1), M3Output(None, None, [np.full((1023, 1024), -0.012345678, np.float32)]))
        assert server.largest < 32 << 20
        assert store.count() == 1


def together(*works: Callable[[], Any]) -> list[Any]:
    """What they return, all begun at once."""
    barrier = threading.Barrier(len(works))

    def begin(work: Callable[[], Any]) -> Any:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(begin, work) for work in works]]


def test_many_create_the_same_collection_at_once(server: Serving) -> None:
    stores = [server.store(settings=QdrantSettings(indexed={"side": "keyword"})) for _ in range(6)]
    server.order("create", delay=0.1, times=6)
    together(*(lambda n=n, s=s: s.upsert(records(10, 10 * n), random_output(10)) for n, s in enumerate(stores)))
    assert len(server.requests("create")) > 1
    assert server.rest.backend.names() == ["test"]
    assert {store.schema for store in stores} == {stores[0].schema}
    for store in stores:
        assert store.count() == 60
        store.close()


def test_whoever_creates_it_with_other_vectors_later_is_refused(server: Serving) -> None:
    with server.store() as one, server.store() as two:
        assert one.schema is two.schema is None
        one.upsert(records(1), random_output(1))
        with pytest.raises(CollectionMismatch, match="holds dense, sparse, multivector, and these are dense"):
            two.upsert(records(1), random_output(1, modes=("dense",)))


def test_threads_share_a_store(server: Serving, store: QdrantStore) -> None:
    def write(n: int) -> None:
        for part in range(3):
            store.upsert(records(4, 100 + 12 * n + 4 * part), random_output(4, seed=n))

    def read(n: int) -> None:
        for seed in range(3):
            assert len(store.search(random_output(1, seed=seed), k=10, rerank=True)[0]) == 10
            assert store.get(["doc 5"]) == records(1, first=5)

    together(*(lambda n=n, f=f: f(n) for n, f in enumerate([write, read] * 4)))
    assert store.count() == N + 4 * 12
    assert len([r for page in store.scroll(size=17) for r in page.records]) == N + 48


def test_a_closed_store_says_so(server: Serving, store: QdrantStore) -> None:
    async def work() -> None:
        await store.acount()
        store.close()
        await says_so()

    async def says_so() -> None:
        for ask in (store.acount, lambda: store.asearch(random_output(1)), lambda: store.aget(["doc 1"])):
            with pytest.raises(StoreError, match="is closed: open a new QdrantStore"):
                await ask()

    asyncio.run(work())
    asyncio.run(says_so())
    store.close()
    for ask in (lambda: store.schema, store.count, store.clear, lambda: store.upsert(records(1), random_output(1))):
        with pytest.raises(StoreError, match="is closed: open a new QdrantStore"):
            ask()
    with server.store() as again:
        assert again.count() == N


async def test_aclose_closes_it_all(server: Serving) -> None:
    async with server.store() as store:
        await store.aupsert(records(3), random_output(3))
    for ask in (store.acount, store.aclear):
        with pytest.raises(StoreError, match="is closed"):
            await ask()
    with pytest.raises(StoreError, match="is closed"):
        store.count()
    await store.aclose()


@forks
def test_a_forked_child_is_refused_and_the_parent_goes_on(store: QdrantStore) -> None:
    def work() -> int:
        with store:
            return store.count()

    refused = "StoreError this store was made before the process was forked: make a new one"
    assert in_a_fork(work).startswith(refused)
    assert store.count() == N


@forks
@pytest.mark.parametrize("dropped", ["by both", "by the child"])
def test_a_forked_child_may_drop_what_it_inherited(server: Serving, dropped: str) -> None:
    """gRPC's channels of an event loop end a child that lets go of them; as garbage, too, that nobody collected yet."""
    stores = [server.store()]
    stores[0].upsert(records(N), random_output(N))
    gc.disable()
    try:
        assert asyncio.run(stores[0].acount()) == N
        if dropped == "by both":
            stores.clear()
        assert in_a_fork(stores.clear, with_garbage=True) == "None"
    finally:
        gc.enable()
    with server.store() as store:
        assert asyncio.run(store.acount()) == N


def test_another_servers_answers_are_not_taken_for_an_empty_collection() -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404, "File not found")

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(StoreError, match="is no Qdrant server"):
            QdrantStore("test", url=f"http://127.0.0.1:{other.server_port}")
        other.shutdown()


def test_a_password_in_a_url_is_refused() -> None:
    with pytest.raises(InvalidInput, match="give an api_key") as refused:
        QdrantStore("test", url="http://me:secret@localhost:6333")
    assert "secret" not in str(refused.value)
