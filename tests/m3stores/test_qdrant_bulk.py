"""`QdrantStore.bulk_load`: the graph is put off, and comes back whatever happens. Through the stand-in."""

import os
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

from qdrant_client import models as m
from qdrant_standin.serving import Serving
from vectors import random_output, records

from m3core import CollectionMismatch, M3Warning, StoreError
from m3stores import QdrantStore
from m3stores.qdrant import bulk
from m3stores.qdrant.layout import LANGCHAIN

N = 10


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_FIRST_PAUSE", 0.001)


def made(server: Serving, edges: int | None = None) -> None:
    """A collection with records, whose dense vectors have a setting of their own, if any."""
    with server.store() as store:
        store.upsert(records(N), random_output(N))
    if edges is not None:
        with server.client() as client:
            change = m.VectorParamsDiff(hnsw_config=m.HnswConfigDiff(m=edges, ef_construct=77))
            client.update_collection("test", vectors_config={"dense": change})


def config(server: Serving) -> dict[str, Any]:
    return server.rest.backend["test"].config


def graph(server: Serving, name: str = "dense") -> int | None:
    """How many edges the server makes for each vector of a name, if they have a setting of their own."""
    return config(server)["params"]["vectors"][name].get("hnsw_config", {}).get("m")


def note(server: Serving) -> Any:
    return config(server)["metadata"].get("m3_bulk")


@pytest.mark.parametrize("edges", [None, 24])
def test_the_graph_is_put_off_and_comes_back(server: Serving, edges: int | None) -> None:
    made(server, edges)
    before = config(server)["metadata"]
    with server.store() as store:
        with store.bulk_load():
            assert (graph(server), graph(server, "multivector")) == (0, 0)
            store.upsert(records(N, first=N), random_output(N))
            assert len(store.search(random_output(1), k=5)[0]) == 5
        assert graph(server) == (edges or config(server)["hnsw_config"]["m"])
        assert graph(server, "multivector") == 0
        assert config(server)["metadata"] == before
        assert store.count() == 2 * N
    if edges is not None:
        assert config(server)["params"]["vectors"]["dense"]["hnsw_config"] == {"m": edges, "ef_construct": 77}


def test_a_collection_that_comes_into_being_has_no_graph_until_the_end(server: Serving) -> None:
    with server.store() as store:
        with store.bulk_load():
            store.upsert(records(N), random_output(N))
            assert graph(server) == 0
            store.drop()
            store.upsert(records(N), random_output(N))
            assert graph(server) == 0
        assert (graph(server), note(server)) == (16, None)
        store.drop()
        store.upsert(records(N), random_output(N))
        assert graph(server) is None


def test_a_copy_in_another_process_belongs_to_the_load(server: Serving) -> None:
    with server.store() as store:
        with store.bulk_load(), pickle.loads(pickle.dumps(store)) as copy:
            copy.upsert(records(N), random_output(N))
            assert graph(server) == 0
        assert (graph(server), note(server)) == (16, None)
        store.drop()
        with pickle.loads(pickle.dumps(store)) as copy:
            copy.upsert(records(N), random_output(N))
        assert graph(server) is None


async def test_an_event_loop_that_writes_within_it(server: Serving) -> None:
    async with server.store() as store:
        with store.bulk_load():
            await store.aupsert(records(N), random_output(N))
            assert graph(server) == 0
        assert graph(server) == 16


def test_without_dense_vectors_or_records_nothing_is_done(server: Serving) -> None:
    with server.store() as store:
        with store.bulk_load():
            pass
        assert server.rest.backend.names() == []
        with store.bulk_load():
            store.upsert(records(N), random_output(N, modes=("sparse",)))
        before = config(server)
        with store.bulk_load():
            store.upsert(records(N), random_output(N, seed=1, modes=("sparse",)))
        assert config(server) == before
        assert store.count() == N


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_it_comes_back_after_an_exception(server: Serving, error: BaseException) -> None:
    made(server, 24)
    with server.store() as store:
        server.rest.backend["test"].reports = [("yellow", "ok")] * 100
        with pytest.raises(type(error)), store.bulk_load():
            raise error
        assert (graph(server), note(server)) == (24, None)
        assert len(server.rest.backend["test"].reports) > 90  # it was not waited for


def test_an_exception_is_told_even_if_nothing_can_be_put_back(server: Serving) -> None:
    def fail() -> None:
        server.order("update", status=400)
        raise ValueError("mine")

    made(server, 24)
    with server.store() as store:
        with pytest.raises(ValueError, match="mine") as caught, store.bulk_load():
            fail()
        assert "could not be put back either, until bulk_load(): Qdrant at" in caught.value.__notes__[0]
        with store.bulk_load():
            assert graph(server) == 0
        assert (graph(server), note(server)) == (24, None)


@pytest.mark.parametrize("fresh", [False, True])
def test_what_was_abandoned_comes_back_as_it_was(server: Serving, fresh: bool) -> None:
    """By the next load of another store; until then whoever opens the collection is warned."""
    if not fresh:
        made(server, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("error", M3Warning)
        abandoned = server.store()
    load = abandoned.bulk_load()
    load.__enter__()
    abandoned.upsert(records(N), random_output(N))
    abandoned.close()
    with pytest.warns(
        M3Warning, match=r"'test' is being bulk-loaded, or .*bulk_load\(\): pass`, or by m3 index --bulk"
    ):
        store = server.store()
    with store:
        assert graph(server) == 0
        with store.bulk_load():
            assert graph(server) == 0
        assert (graph(server), note(server)) == (16 if fresh else 24, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", M3Warning)
        server.store().close()


def test_a_killed_process_leaves_the_note(server: Serving) -> None:
    if server.grpc:
        pytest.skip("the same by either protocol")
    made(server, 24)
    script = (
        "import sys, time; from m3stores import QdrantStore\n"
        "with QdrantStore('test', url=sys.argv[1]).bulk_load():\n    print('in', flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, server.rest.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGKILL)
    assert (graph(server), note(server)) == (0, {"m": 24})
    with pytest.warns(M3Warning, match="killed"), server.store() as store, store.bulk_load():
        store.upsert(records(N, first=N), random_output(N))
    assert (graph(server), note(server)) == (24, None)


def test_two_loads_at_once(server: Serving) -> None:
    made(server, 24)
    with server.store() as one, server.store() as two:
        first, second = one.bulk_load(), two.bulk_load()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert (graph(server), note(server)) == (24, None)
        two.upsert(records(N, first=N), random_output(N))
        second.__exit__(None, None, None)
        assert (graph(server), note(server), two.count()) == (24, None, 2 * N)


def test_a_load_that_begins_just_when_another_one_ends(server: Serving) -> None:
    """It has read the other's note, which is then removed."""
    made(server, 24)
    with server.store() as store:
        with store.bulk_load():
            server.rest.backend["test"].patch({"metadata": {"m3_bulk": None}})
        assert (graph(server), note(server)) == (24, None)


def test_a_server_that_keeps_no_metadata_is_refused(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    made(server, 24)
    collection = server.rest.backend["test"]
    patch = collection.patch
    monkeypatch.setattr(collection, "patch", lambda asked: patch({**asked, "metadata": None}))
    with server.store() as store:
        with pytest.raises(StoreError, match=r"needs Qdrant 1\.16 or later"), store.bulk_load():
            pass
        assert graph(server) == 24


def test_trouble_on_the_way(server: Serving) -> None:
    made(server, 24)
    with server.store() as store:
        for trouble in ({"status": 503}, {"drop": "before"}, {"drop": "after"}):
            server.order("update", **trouble)
            with store.bulk_load():
                assert graph(server) == 0
                server.order("update", **trouble)
            assert (graph(server), note(server)) == (24, None)


@pytest.mark.parametrize("status", ["yellow", "grey"])
def test_it_waits_for_the_server(server: Serving, status: str) -> None:
    """Until it says green several times in a row; one that has not begun is woken."""
    made(server)
    reports = server.rest.backend["test"]
    with server.store() as store:
        with store.bulk_load(timeout=20):
            reports.reports = [("yellow", "ok"), ("green", "ok"), *[(status, "ok")] * 5, ("green", "ok")]
        assert reports.reports == []
        assert graph(server) == 16


def test_what_the_optimizers_say_is_told(server: Serving) -> None:
    made(server)
    collection = server.rest.backend["test"]
    with server.store() as store:
        for report, said in (
            (
                ("yellow", {"error": "No space left on device"}),
                "'test': No space left on device. All records are there",
            ),
            (("red", "ok"), "its status is red"),
        ):
            with pytest.raises(StoreError, match=said), store.bulk_load():
                collection.reports = [("yellow", "ok"), ("yellow", "ok"), report]
            assert (graph(server), note(server)) == (16, None)


def test_it_does_not_wait_for_ever(server: Serving) -> None:
    made(server)
    said = r"in 0\.05 seconds: all records are there and its settings are as before"
    with server.store() as store:
        with pytest.raises(StoreError, match=said), store.bulk_load(timeout=0.05):
            server.rest.backend["test"].reports = [("yellow", "ok")] * 1000
        assert (graph(server), note(server)) == (16, None)


def test_another_programs_collection_is_left_alone(server: Serving) -> None:
    with server.client() as client:
        client.create_collection("test", m.VectorParams(size=16, distance=m.Distance.COSINE))
    before = config(server)
    with server.store(layout=LANGCHAIN) as store:
        with pytest.raises(CollectionMismatch, match="adopt=True"), store.bulk_load():
            pass
        assert config(server) == before
    with server.store(layout=LANGCHAIN, adopt=True) as store, store.bulk_load():
        assert config(server)["params"]["vectors"]["hnsw_config"]["m"] == 0
    assert config(server)["params"]["vectors"]["hnsw_config"]["m"] == 16


def test_an_embedded_collection_is_loaded_the_same_way(tmp_path: Path) -> None:
    with QdrantStore("test", path=tmp_path) as store:
        with store.bulk_load():
            store.upsert(records(N), random_output(N))
        assert store.count() == N
