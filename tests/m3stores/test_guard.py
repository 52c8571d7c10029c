"""The guard of an embedded collection: one owner, nothing after a fork, and whole or not there."""

import gc
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import forks, in_a_fork, open_elsewhere
from vectors import random_output, records

from m3core import CollectionLocked, InvalidInput, StoreError
from m3stores import QdrantStore


def test_a_second_process_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with QdrantStore("test", path=tmp_path) as store:
        store.upsert(records(10), random_output(10))
        for _ in range(2):
            answer = open_elsewhere("QdrantStore", tmp_path)
            assert answer.startswith("CollectionLocked")
            assert "is open already, in this process or in another" in answer
        store.upsert(records(10, first=10), random_output(10, seed=1))
        assert store.count() == 20
    assert open_elsewhere("QdrantStore", tmp_path) == "opened\n"
    with QdrantStore("test", path=tmp_path) as store:
        assert store.count() == 20
        assert len(store.search(random_output(1), k=20, rerank=True)[0]) == 20


def test_a_second_store_in_this_process_is_refused(tmp_path: Path) -> None:
    with QdrantStore("test", path=tmp_path), pytest.raises(CollectionLocked):
        QdrantStore("test", path=tmp_path)
    QdrantStore("test", path=tmp_path).close()


@forks
def test_a_forked_child_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    store = QdrantStore("test", path=tmp_path)
    store.upsert(records(10), random_output(10))
    query = random_output(1)
    for work in (
        lambda: store.search(query),
        lambda: store.upsert(records(1), query),
        lambda: store.count(),
        lambda: store.delete(["doc 1"]),
    ):
        answer = in_a_fork(work)
        assert answer.startswith("StoreError")
        assert "before this process was forked" in answer
    assert in_a_fork(lambda: store.close()) == "None"
    assert in_a_fork(lambda: QdrantStore("test", path=tmp_path)).startswith("CollectionLocked")
    assert open_elsewhere("QdrantStore", tmp_path).startswith("CollectionLocked")
    store.upsert(records(10, first=10), random_output(10))
    assert store.count() == 20
    store.close()
    assert open_elsewhere("QdrantStore", tmp_path) == "opened\n"


@forks
def test_a_fork_while_another_thread_is_in_the_store(tmp_path: Path) -> None:
    """A lock that was held at the fork stays held in the child for ever."""
    store = QdrantStore("test", path=tmp_path)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            store.upsert(records(50), random_output(50))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.2)
        for _ in range(5):
            assert in_a_fork(lambda: store.count()).startswith("StoreError")
    finally:
        stop.set()
        writer.join()
    assert store.count() == 50
    store.close()


@forks
def test_a_forked_child_leaves_a_temporary_collection_alone() -> None:
    code = """
import os, sys
from m3stores import QdrantStore
from vectors import random_output, records
store = QdrantStore("test")
store.upsert(records(3), random_output(3))
if os.fork() == 0:
    sys.exit()      # runs the exit handlers
os.wait()
store.upsert(records(3, first=3), random_output(3))
print(store.count())
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr


@forks
def test_worker_processes_end_well_beside_an_open_store(tmp_path: Path) -> None:
    with QdrantStore("test", path=tmp_path) as store:
        store.upsert(records(3), random_output(3))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
        assert store.count() == 3


def test_a_temporary_collection_goes_with_its_store() -> None:
    store = QdrantStore("test")
    store.upsert(records(1), random_output(1))
    home = store._engine._guard._temporary
    assert home.is_dir()
    store.close()
    assert not home.exists()

    store = QdrantStore("test")
    home = store._engine._guard._temporary
    del store
    gc.collect()
    assert not home.exists()


def test_a_store_that_is_let_go_of_can_be_opened_again(tmp_path: Path) -> None:
    store = QdrantStore("test", path=tmp_path)
    store.upsert(records(4), random_output(4))
    del store
    gc.collect()
    with QdrantStore("test", path=tmp_path) as store:
        assert store.count() == 4


def test_remains_of_a_creation_that_was_killed_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".test.new" / "shard").mkdir(parents=True)
    (tmp_path / ".test.new" / "m3.json").write_text("{")
    with QdrantStore("test", path=tmp_path) as store:
        store.upsert(records(2), random_output(2))
        assert store.count() == 2


@pytest.mark.parametrize("content", [None, "{", '{"format": "m3-collection/9"}', "[]", "{}"])
def test_a_directory_of_somebody_elses_is_left_alone(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "precious").write_text("data")
    if content is not None:
        (tmp_path / "test" / "m3.json").write_text(content)
    with pytest.raises(StoreError, match="is not a collection that this version of QdrantStore made"):
        QdrantStore("test", path=tmp_path)
    assert (tmp_path / "test" / "precious").read_text() == "data"


def test_a_fingerprint_written_without_a_setting_has_its_default(tmp_path: Path) -> None:
    with QdrantStore("test", path=tmp_path) as store:
        store.upsert(records(2), random_output(2))
    noted = json.loads((tmp_path / "test" / "m3.json").read_text())
    assert noted["fingerprint"].pop("mcls") is None
    (tmp_path / "test" / "m3.json").write_text(json.dumps(noted))
    with QdrantStore("test", path=tmp_path) as store:
        assert store.search(random_output(1), k=1)
        assert store.upsert(records(1, first=2), random_output(1))


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    with QdrantStore("test", path=tmp_path) as store:
        store.upsert(records(2), random_output(2))
    (tmp_path / "test" / "shard" / "edge_config.json").write_text("nonsense")
    for _ in range(2):  # and not locked by the failure
        with pytest.raises(StoreError, match=r"the engine of collection 'test' in .* failed"):
            QdrantStore("test", path=tmp_path)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a\\b", "..", "x" * 201, "辩" * 67, "\ud800", None, 7])
def test_names_that_are_no_names_are_refused(tmp_path: Path, name) -> None:
    with pytest.raises(InvalidInput, match="a collection's name is"):
        QdrantStore(name, path=tmp_path)


def test_a_path_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="nothing can be kept in"):
        QdrantStore("test", path=tmp_path / "file")
    with pytest.raises(InvalidInput, match="the path is empty"):
        QdrantStore("test", path="")


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with QdrantStore("test", path="index") as store:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        store.upsert(records(2), random_output(2))
        assert store.count() == 2
    assert (tmp_path / "index" / "test" / "m3.json").is_file()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_directory_that_goes_away_is_made_again_or_named(tmp_path: Path) -> None:
    import shutil

    with QdrantStore("test", path=tmp_path / "index") as store:
        shutil.rmtree(tmp_path / "index")
        store.upsert(records(2), random_output(2))
        assert store.count() == 2
    with QdrantStore("other", path=tmp_path / "index") as store:
        (tmp_path / "index" / ".other.new").write_text("a file in the way")
        with pytest.raises(StoreError, match="'other'"):
            store.upsert(records(2), random_output(2))


def test_threads_may_close_a_store_together() -> None:
    failures = []
    for _ in range(5):
        store = QdrantStore("test")
        store.upsert(records(50), random_output(50))

        def close(store=store) -> None:
            try:
                store.close()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=close) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


@forks
def test_a_forked_child_that_lives_on_is_named_as_the_holder(tmp_path: Path) -> None:
    store = QdrantStore("test", path=tmp_path)
    store.upsert(records(2), random_output(2))
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(write)
        os.read(read, 1)  # until the parent has closed its end
        os._exit(0)
    os.close(read)
    store.close()
    with pytest.raises(CollectionLocked, match="held by a process that was forked"):
        QdrantStore("test", path=tmp_path)
    os.close(write)
    os.waitpid(child, 0)
    with QdrantStore("test", path=tmp_path) as store:
        assert store.count() == 2


def test_threads_share_a_store() -> None:
    failures = []
    with QdrantStore("test") as store:

        def work(number: int) -> None:
            try:
                for turn in range(5):
                    first = 100 * number + 10 * turn
                    store.upsert(records(10, first=first), random_output(10, seed=first))
                    assert len(store.search(random_output(1, seed=first), k=5, rerank=True)[0]) == 5
                    store.delete([f"doc {first}"])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert store.count() == 8 * 5 * 9


def test_whoever_comes_first_decides_what_a_collection_holds(tmp_path: Path) -> None:
    """Two threads make the same collection with different modes: one of them is refused, whole."""
    for turn in range(5):
        with QdrantStore(f"test{turn}", path=tmp_path) as store:
            outcome: list[str] = []

            def write(modes, store=store, outcome=outcome) -> None:
                try:
                    store.upsert(records(5), random_output(5, modes=modes))
                    outcome.append("written")
                except Exception as error:
                    outcome.append(type(error).__name__)

            threads = [threading.Thread(target=write, args=[m]) for m in (("dense",), ("dense", "sparse"))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(outcome) == ["CollectionMismatch", "written"]
            assert json.loads((tmp_path / f"test{turn}" / "m3.json").read_text())["modes"] == list(store.modes)


def test_a_missing_engine_says_what_to_install() -> None:
    code = """
import sys
sys.modules["qdrant_edge"] = None
from m3stores import QdrantStore
QdrantStore("test")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependency" in done.stderr
    assert "pip install 'm3-retrieval[qdrant]'" in done.stderr
