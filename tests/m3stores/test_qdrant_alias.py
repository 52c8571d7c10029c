"""Aliases on a server: how one is moved, and stores that are opened by it. Through the stand-in."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

from qdrant_standin.serving import Serving
from vectors import random_output, records

from m3core import CollectionMismatch, InvalidInput
from m3stores import QdrantStore

N = 10


def made(server: Serving, name: str, seed: int = 0) -> QdrantStore:
    store = server.store(name)
    store.upsert(records(N), random_output(N, seed=seed))
    return store


def test_an_alias_is_made_and_moved(server: Serving) -> None:
    with made(server, "docs-1") as one, made(server, "docs-2", seed=1) as two:
        assert one.aliased("docs") is None
        assert one.point_alias("docs") is None
        assert one.point_alias("docs") == "docs-1"
        assert two.aliased("docs") == "docs-1"
        with server.store("docs") as docs:
            query = random_output(1, seed=3)
            assert docs.search(query) == one.search(query) != two.search(query)
            assert two.point_alias("docs") == "docs-1"
            assert docs.search(query) == two.search(query)
        assert two.point_alias("latest") is None
        assert (one.aliased("docs"), one.aliased("latest")) == ("docs-2", "docs-2")
        assert server.rest.backend.names() == ["docs-1", "docs-2"]


def test_a_store_opened_by_an_alias_is_one_of_its_collection(server: Serving) -> None:
    with made(server, "docs-1") as one:
        one.point_alias("docs")
        with server.store("docs") as docs:
            assert docs.schema == one.schema
            docs.upsert(records(N, first=N), random_output(N))
            docs.delete(["doc 0"])
            assert docs.count() == one.count() == 2 * N - 1
            query = random_output(1, seed=3)
            assert docs.search(query, rerank=True) == one.search(query, rerank=True)
            with docs.bulk_load():
                assert server.rest.backend["docs-1"].config["params"]["vectors"]["dense"]["hnsw_config"]["m"] == 0
            with pytest.raises(
                CollectionMismatch, match="'docs' holds dense, sparse, multivector, and these are dense"
            ):
                docs.upsert(records(1), random_output(1, modes=("dense",)))
            with pytest.raises(InvalidInput, match="'docs' is an alias of the collection 'docs-1': drop that one"):
                docs.drop()
            assert docs.point_alias("latest") is None  # to the collection: an alias of an alias there is none
            assert docs.point_alias("docs") == "docs-1"
        assert one.aliased("latest") == "docs-1"


def test_searches_go_on_while_it_moves(server: Serving) -> None:
    stores = [made(server, f"docs-{n}", seed=n) for n in range(2)]
    stores[0].point_alias("docs")
    ended, found, query = threading.Event(), [], random_output(1, seed=3)

    def search() -> None:
        with server.store("docs") as docs:
            while not ended.is_set():
                found.append((docs.count(), len(docs.search(query, k=N)[0])))

    with ThreadPoolExecutor(2) as pool:
        searches, turn = [pool.submit(search) for _ in range(2)], 0
        while (len(found) < 8 or turn < 8) and not any(search.done() for search in searches):
            assert stores[1 - turn % 2].point_alias("docs") == f"docs-{turn % 2}"
            turn += 1
        ended.set()
        for one in searches:
            one.result()
    assert set(found) == {(N, N)}
    for store in stores:
        store.close()


def test_what_cannot_be_an_alias_is_named(server: Serving, tmp_path: Path) -> None:
    with made(server, "docs-1") as one, made(server, "docs"), server.store("none yet") as none:
        for taken in ("docs", "docs-1"):
            for ask in (one.aliased, one.point_alias):
                with pytest.raises(InvalidInput, match=f"{taken!r} is the name of a collection, .* drop {taken!r}"):
                    ask(taken)
        with pytest.raises(InvalidInput, match="'none yet' is the name of a collection"):
            none.aliased("none yet")
        with pytest.raises(InvalidInput, match="'none yet' does not exist: its first upsert makes it"):
            none.point_alias("latest")
        with pytest.raises(InvalidInput, match="needs a name"):
            one.point_alias("")
        assert one.aliased("latest") is None
    with QdrantStore("test", path=tmp_path) as store:
        for ask in (store.aliased, store.point_alias):
            with pytest.raises(InvalidInput, match="give its url"):
                ask("docs")


def test_trouble_on_the_way(server: Serving) -> None:
    with made(server, "docs-1") as one, made(server, "docs-2") as two:
        one.point_alias("docs")
        for store, trouble in ((two, {"status": 503}), (one, {"drop": "before"}), (two, {"drop": "after"})):
            server.order("alias", **trouble)
            assert store.point_alias("docs") != store.collection == store.aliased("docs")
