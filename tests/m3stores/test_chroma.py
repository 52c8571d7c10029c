"""What is particular to Chroma: one owner of a directory, what lies beside it, and collections of other programs."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import forks, in_a_fork, open_elsewhere
from store_kinds import chroma_run
from vectors import KNOWN, random_output, records

from m3core import CollectionLocked, CollectionMismatch, InvalidInput, M3Output, StoreError, StoreWarning
from m3stores import ChromaStore, Record
from m3stores.chroma import Where, derived

chromadb = pytest.importorskip("chromadb")

DOCUMENTS = random_output(31)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_run(tmp_path_factory.mktemp("chroma") / "server") as url:
        yield url


def test_a_second_process_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with ChromaStore("test", path=tmp_path) as store:
        store.upsert(records(10), random_output(10))
        assert open_elsewhere("ChromaStore", tmp_path).startswith("CollectionLocked")
        store.upsert(records(10, first=10), random_output(10, seed=1))
    assert open_elsewhere("ChromaStore", tmp_path) == "opened\n"
    with ChromaStore("test", path=tmp_path) as store:
        assert store.count() == 20


@forks
def test_a_forked_child_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with ChromaStore("test", path=tmp_path) as store:
        store.upsert(records(10), random_output(10))
        for work in (store.count, store.close, lambda: store.upsert(records(2), random_output(2, seed=3))):
            answer = in_a_fork(work)
            assert "made before the process was forked" in answer or answer == "None"
        assert "opened before this process was forked" in in_a_fork(lambda: ChromaStore("test", path=tmp_path))
        store.upsert(records(10, first=10), random_output(10, seed=1))
        assert len(store.search(random_output(1), k=20, rerank=True)[0]) == 20


@forks
def test_a_forked_child_that_ends_leaves_a_temporary_collection_alone() -> None:
    with ChromaStore("test") as store:
        store.upsert(records(3), random_output(3))

        def leave() -> None:
            store.close()
            store.__exit__(None, None, None)

        assert in_a_fork(leave) == "None"
        assert len(store.search(random_output(1), rerank=True)[0]) == 3


def test_a_store_that_nobody_closed_gives_its_directory_back(tmp_path: Path) -> None:
    store = ChromaStore("test", path=tmp_path)
    store.upsert(records(1), random_output(1))
    del store
    gc.collect()
    with ChromaStore("test", path=tmp_path) as store:
        assert store.count() == 1


def test_a_directory_that_cannot_be_opened_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "m3").write_text("no directory")
    for _ in range(2):
        with pytest.raises(StoreError, match="no multi-vectors can be kept"):
            ChromaStore("test", path=tmp_path)
    (tmp_path / "m3").unlink()
    ChromaStore("test", path=tmp_path).close()


def test_collections_of_one_directory_share_it_within_a_process(tmp_path: Path) -> None:
    with ChromaStore("one", path=tmp_path) as one:
        with ChromaStore("two", path=tmp_path) as two:
            two.upsert(records(3), random_output(3))
            with pytest.raises(CollectionLocked, match="open already in this process: share it"):
                ChromaStore("two", path=tmp_path)
        one.upsert(records(5), random_output(5))
        assert one.count() == 5
    with ChromaStore("two", path=tmp_path) as two:
        assert two.count() == 3


def test_a_temporary_collection_goes_when_it_is_closed() -> None:
    store = ChromaStore("test")
    store.upsert(records(1), random_output(1))
    store.close()
    store.close()
    with pytest.raises(StoreError, match="is closed: open a new ChromaStore"):
        store.count()
    with ChromaStore("test") as store:
        assert store.count() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "x", "url": "http://localhost"}, "either a path or a url"),
        ({"sidecar": "x"}, "are for a server"),
        ({"url": "localhost:8000"}, "a server's url is like"),
        ({"url": "http://localhost/chroma"}, "without a path"),
        ({"url": "http://me:secret@localhost"}, "a url with a password in it"),
    ],
)
def test_arguments_that_do_not_go_together(options: dict, message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=message):
        ChromaStore("test", **options)


@pytest.mark.parametrize("name", ["ab", "中文名", "has space", ""])
def test_names_that_chroma_does_not_take(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        ChromaStore(name, path=tmp_path)
    ChromaStore("good", path=tmp_path).close()


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StoreError, match="cannot be reached"):
        ChromaStore("test", url="http://127.0.0.1:9")


def test_multi_vectors_need_a_directory_beside_a_server(url: str) -> None:
    with ChromaStore("no-sidecar", url=url) as store:
        with pytest.raises(InvalidInput, match="sidecar="):
            store.upsert(records(3), random_output(3))
        assert store.schema is None
        store.upsert(records(3), random_output(3, modes=("dense", "sparse")))
        assert store.count() == 3


def test_what_other_processes_write_to_a_server_is_noticed(url: str, tmp_path: Path) -> None:
    query = random_output(1, seed=4)
    options = {"url": url, "sidecar": tmp_path, "refresh": 0.0}
    with ChromaStore("shared", **options) as one, ChromaStore("shared", **options) as two:
        one.upsert(records(20), random_output(20))
        assert len(two.search(query, k=50, modes=["sparse"])[0]) == len(one.search(query, k=50, modes=["sparse"])[0])
        two.delete([f"doc {i}" for i in range(10)])
        changed = random_output(5, seed=9)
        two.upsert(records(5, first=10), changed)  # the same number of records as before
        two.upsert(records(10, first=30), random_output(10, seed=10))
        for hits, others in zip(one.search(query, k=50), two.search(query, k=50), strict=True):
            assert hits == others
            assert len(hits) == 20


def test_writes_mind_what_other_processes_have_written(url: str, tmp_path: Path) -> None:
    """Whatever a store remembers of its last look."""
    options = {"url": url, "sidecar": tmp_path, "refresh": 3600.0}
    old, new = random_output(3), random_output(3, seed=1)
    with ChromaStore("writers", **options) as one, ChromaStore("writers", **options) as two:
        one.upsert(records(3), old)
        assert len(one.search(random_output(1))[0]) == 3
        two.upsert(records(3), new)
        two.upsert(records(1, first=5), random_output(1))
        assert one.upsert(records(3), old) == ["doc 0", "doc 1", "doc 2"]  # not as it was when it was written last
        assert np.allclose(two.page(with_vectors=True).output.dense[:3], old.dense)
        one.delete(["doc 5"])
        assert two.get(["doc 5"]) == []
        two.upsert(records(1, first=6), random_output(1))
        one.delete(filter={"number": 6})
        assert two.count() == 3
        two.upsert(records(1, first=7), random_output(1))
        one.clear()
        assert two.count() == 0
        one.drop()


def test_another_process_changes_what_the_collection_holds(url: str, tmp_path: Path) -> None:
    options = {"url": url, "sidecar": tmp_path}
    everything = random_output(3)
    dense = M3Output(everything.dense, fingerprint=KNOWN)
    with ChromaStore("changing", **options) as one, ChromaStore("changing", **options) as two:
        one.upsert(records(3), dense)
        two.add_modes(["sparse"], lambda some: everything[[record.metadata["number"] for record in some]])
        with pytest.raises(CollectionMismatch, match=r"encode with modes=\['dense', 'sparse'\]"):
            one.upsert(records(3), dense)
        two.drop()
        with pytest.raises(StoreError, match="has been removed"):
            one.count()
        one.upsert(records(2), dense[:2])
        assert one.count() == 2
        one.drop()


def test_what_is_lost_beside_the_collection_is_missed_not_mistaken(tmp_path: Path) -> None:
    output = random_output(5)
    with ChromaStore("test", path=tmp_path) as store:
        store.upsert(records(5), output)
    next((tmp_path / "m3").glob("test-*.sqlite")).unlink()
    with ChromaStore("test", path=tmp_path) as store:
        with pytest.warns(StoreWarning, match="5 records have no multi-vectors"):
            (hits,) = store.search(random_output(1, seed=1), rerank=True)
        assert {hit.scores["multivector"] for hit in hits} == {0.0}
        with pytest.raises(StoreError, match="has no multivector representation"):
            store.page(with_vectors=True)
        assert len(store.upsert(records(5), output)) == 5  # though nothing else has changed
        assert all(hit.scores["multivector"] for hit in store.search(output[0], rerank=True)[0])


def test_many_records_come_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived, "_MANY", 20)
    with ChromaStore("test") as store:
        store.upsert(records(10), random_output(10))
        with pytest.warns(StoreWarning, match="QdrantStore serves so many better"):
            store.upsert(records(10, first=10), random_output(10, seed=1))
        store.upsert(records(10, first=20), random_output(10, seed=2))  # said once


def test_searches_of_more_than_a_few_records_use_chromas_own_index(monkeypatch: pytest.MonkeyPatch) -> None:
    query = random_output(1, seed=3)
    with ChromaStore("test") as store:
        store.upsert(records(60), random_output(60))
        (exact,) = store.search(query, k=10, rerank=True)
        monkeypatch.setattr(derived, "_FEW", 10)
        store.upsert(records(1, first=60), random_output(1, seed=8))
        store.delete(["doc 60"])
        (found,) = store.search(query, k=10, rerank=True)
        assert [hit.id for hit in found] == [hit.id for hit in exact]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in exact], abs=1e-5)


@pytest.mark.parametrize("server", [False, True])
def test_searches_among_thousands_of_ids_are_exact(server: bool, url: str, tmp_path: Path) -> None:
    """More than Chroma takes at once, in a collection of so many records that its own index serves others."""
    n = derived._FEW + 200
    output, query = random_output(n, modes=("dense", "sparse")), random_output(1, seed=3, modes=("dense", "sparse"))
    with ChromaStore("many-ids", **({"url": url} if server else {"path": tmp_path})) as store:
        store.upsert(records(n), output)
        ids = [f"doc {i}" for i in range(300, 40_000)]
        for where, numbers in [(None, range(300, n)), ({"side": "pro"}, range(301, n, 2))]:
            (hits,) = store.search(query, k=50, candidates=n, ids=ids, filter=where)
            order = np.argsort(-query.score(output[list(numbers)])[0], kind="stable")[:50]
            assert [hit.id for hit in hits] == [f"doc {numbers[i]}" for i in order]
        assert store.search(query, ids=[]) == store.search(query, ids=["doc"]) == [[]]
        store.drop()


def made_by_another_program(path: Path, space: str) -> None:
    """As langchain-chroma does."""
    client = chromadb.PersistentClient(str(path))
    collection = client.create_collection("test", embedding_function=None, configuration={"hnsw": {"space": space}})
    collection.add(
        ids=[f"doc {i}" for i in range(30)],
        embeddings=DOCUMENTS.dense[:30],
        documents=[f"text {i}" for i in range(30)],
        metadatas=[{"number": i, "side": "pro" if i % 2 else "con"} for i in range(30)],
    )
    client.close()


@pytest.mark.parametrize("space", ["l2", "cosine", "ip"])
def test_a_collection_of_another_program_opens_for_reading(tmp_path: Path, space: str) -> None:
    made_by_another_program(tmp_path, space)
    query = random_output(1, seed=2)
    with ChromaStore("test", path=tmp_path) as store:
        assert store.modes == ("dense",)
        assert store.get(["doc 3"]) == records(1, first=3)
        (hits,) = store.search(query, k=5)
        products = (DOCUMENTS.dense[:30] @ query.dense[0]).round(6)
        assert [hit.id for hit in hits] == [f"doc {i}" for i in np.argsort(-products)[:5]]
        assert hits[0].score == pytest.approx(products.max(), abs=1e-5)
        (some,) = store.search(query, k=30, filter=Where({"side": "pro"}))
        assert {hit.metadata["side"] for hit in some} == {"pro"}
        with pytest.raises(InvalidInput, match="give Chroma's own"):
            store.count({"side": "pro"})
        with pytest.raises(CollectionMismatch, match="adopt=True"):
            store.upsert(records(1), random_output(1, modes=("dense",)))
        with pytest.raises(CollectionMismatch, match="16 wide, and these are 24 wide"):
            store.search(random_output(1, dim=24))


def test_an_adopted_collection_gets_what_filters_and_other_modes_need(tmp_path: Path) -> None:
    made_by_another_program(tmp_path, "cosine")
    with ChromaStore("test", path=tmp_path, adopt=True) as store:
        store.upsert(records(1, first=30), M3Output(DOCUMENTS.dense[30:], fingerprint=KNOWN))
        assert store.schema.fingerprint == KNOWN
        assert store.count({"side": "pro"}) == 15
        assert store.count({"number": {"$gte": 10}, "side": {"$ne": "pro"}}) == 11
        store.add_modes(
            ["sparse", "multivector"], lambda some: DOCUMENTS[[record.metadata["number"] for record in some]]
        )
    with ChromaStore("test", path=tmp_path) as store:
        assert store.modes == ("dense", "sparse", "multivector")
        (hits,) = store.search(random_output(1, seed=5), k=31, candidates=31, rerank=True)
        scores = random_output(1, seed=5).score(DOCUMENTS)[0]
        assert [hit.id for hit in hits] == [f"doc {i}" for i in np.argsort(-scores, kind="stable")]


def test_a_filter_of_chromas_own_may_look_into_texts(tmp_path: Path) -> None:
    with ChromaStore("test", path=tmp_path) as store:
        store.upsert([Record("a", "巴黎是首都"), Record("b", "东京是首都")], random_output(2))
        (hits,) = store.search(random_output(1), filter=Where(document={"$contains": "巴黎"}))
        assert [hit.id for hit in hits] == ["a"]
        assert store.count(Where(document={"$contains": "首都"})) == 2
