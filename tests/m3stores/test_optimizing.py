"""Building the index of an embedded Qdrant collection, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from vectors import random_output, records

from m3core import CollectionLocked, InvalidInput, M3Output, StoreError
from m3stores import QdrantSettings, QdrantStore
from m3stores.qdrant import optimizing

OPTIMIZE = """
import sys
from m3stores import QdrantStore
store = QdrantStore("test", path=sys.argv[1])
print("optimizing", flush=True)
store.optimize()
print("done", flush=True)
"""


def large(n: int, seed: int = 0) -> M3Output:
    """In clusters, as those of texts are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(100, 256))
    dense = (centres[rng.integers(0, 100, n)] + 0.5 * rng.normal(size=(n, 256))).astype(np.float32)
    return M3Output(dense / np.linalg.norm(dense, axis=1, keepdims=True))


def test_searches_go_on_and_find_the_same(tmp_path: Path) -> None:
    settings = QdrantSettings(quantization="int8", indexed={"side": "keyword"})
    queries = large(20, seed=1)
    with QdrantStore("test", path=tmp_path, settings=settings) as store:
        store.optimize()  # of nothing
        store.upsert(records(12_000), large(12_000))
        before = store.search(queries)
        store.optimize()
        after = store.search(queries)
        common = [len({h.id for h in one} & {h.id for h in two}) for one, two in zip(before, after, strict=True)]
        assert np.mean(common) > 9
        for some in ({"number": {"$lt": 1200}}, {"number": {"$gte": 11_000}, "side": "pro"}):  # with an index or not
            matching = [i for i in range(12_000) if (i < 1200 if len(some) == 1 else i >= 11_000 and i % 2)]
            scores = queries.score(large(12_000)[matching])
            for hits, row in zip(store.search(queries, filter=some), scores, strict=True):
                assert [hit.id for hit in hits] == [f"doc {matching[i]}" for i in np.argsort(-row)[:10]]
        assert store.count({"number": {"$lt": 100}, "side": "pro"}) == 50
        store.upsert(records(10, first=12_000), large(10, seed=2))
        assert store.search(large(10, seed=2)[3], k=1)[0][0].id == "doc 12003"
        store.optimize()
    with QdrantStore("test", path=tmp_path, settings=settings) as store:
        assert store.count() == 12_010


def test_a_failure_leaves_the_store_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with QdrantStore("test", path=tmp_path) as store:
        store.upsert(records(5), random_output(5))
        script = tmp_path / "failing.py"
        script.write_text("raise SystemExit('no memory')")
        monkeypatch.setattr(optimizing, "__file__", str(script))
        with pytest.raises(StoreError, match="no memory"):
            store.optimize()
        assert len(store.search(random_output(1), rerank=True)[0]) == 5


def wait_for(path: Path) -> QdrantStore:
    """The collection, as soon as nobody has it."""
    while True:
        try:
            return QdrantStore("test", path=path)
        except CollectionLocked:
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_nobody_opens_what_an_orphan_is_still_optimizing(tmp_path: Path) -> None:
    with QdrantStore("test", path=tmp_path) as store:
        for part in range(3):
            store.upsert(records(10_000, first=10_000 * part), large(10_000, seed=part))
    command = [sys.executable, "-c", OPTIMIZE, tmp_path]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert parent.stdout.readline() == "optimizing\n"
    time.sleep(1.0)  # the child has begun
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    with pytest.raises(CollectionLocked, match="being optimized for a process that has died"):
        QdrantStore("test", path=tmp_path)
    with wait_for(tmp_path) as store:
        assert store.count() == 30_000
        assert len(store.search(large(1))[0]) == 10


def test_a_server_does_it_by_itself() -> None:
    standin = pytest.importorskip("qdrant_standin")
    with (
        standin.RestServer() as server,
        QdrantStore("test", url=server.url) as store,
        pytest.raises(InvalidInput, match="by itself"),
    ):
        store.optimize()
