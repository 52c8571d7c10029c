"""On a Ray cluster of two nodes a run ends as it does in one process."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from store_kinds import chroma_run

from m3core import InvalidInput, M3Encoder, Record
from m3stores import ChromaStore, HybridStore, QdrantStore
from m3stores.pipeline import index

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
WORDS = ["the", "one", "of", "me", "it", "中国", "人", "说", "的", "是", "大", "a", "b", "c", "d", "1", "2", "3"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two nodes, with processes of their own."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Long and short texts, records, and what cannot be used."""
    folder = tmp_path / "docs"
    folder.mkdir()
    chance = random.Random(3)
    for number in range(20):
        text = "\n\n".join(" ".join(chance.choices(WORDS, k=chance.randint(1, 60))) + "." for _ in range(30))
        (folder / f"{number}.txt").write_text(text, "utf-8")
    lines = [{"_id": f"r{i % 290}", "text": " ".join(chance.choices(WORDS, k=12)), "n": i} for i in range(300)]
    (folder / "records.jsonl").write_text("\n".join([*map(json.dumps, lines), "no json", '{"_id": "x"}']), "utf-8")
    return folder


Content = dict[str, tuple[Record, np.ndarray, dict[int, float], np.ndarray]]


def content(store: HybridStore) -> Content:
    found: Content = {}
    for page in store.scroll(size=500, with_vectors=True):
        output = page.output
        for row, record in enumerate(page.records):
            assert record.id not in found
            rows = output.multivector[row] if output.multivector else np.zeros(0)
            found[record.id] = record, output.dense[row], output.sparse[row].as_dict(), rows
    return found


def assert_same(found: Content, expected: Content) -> None:
    assert found.keys() == expected.keys()
    for name, (record, dense, sparse, rows) in expected.items():
        assert found[name][0] == record
        np.testing.assert_allclose(found[name][1], dense, atol=1e-5)
        assert found[name][2] == pytest.approx(sparse, abs=2e-3)
        np.testing.assert_allclose(found[name][3], rows, atol=2e-3)


@pytest.fixture(scope="module")
def encoder(m3_dir: Path) -> M3Encoder:
    return M3Encoder(m3_dir, dtype="float32", device="cpu", engine="torch")


def test_an_embedded_collection_is_the_same(
    address: str, source: Path, encoder: M3Encoder, tmp_path: Path
) -> None:
    with QdrantStore("local") as local, QdrantStore("cluster") as store:
        options = {"tokens": 24, "overlap": 4, "batch_size": 64}
        here = index(source, encoder, local, **options)
        there = index(source, encoder, store, ray=address, rejects=tmp_path / "rejects", **options)
        assert_same(content(store), content(local))
        for name in ("documents", "passages", "encoded", "unchanged", "removed", "rejected"):
            assert getattr(there, name) == getattr(here, name), name
        assert {reject.reason for reject in there.rejects} == {reject.reason for reject in here.rejects}
        assert len((tmp_path / "rejects").read_text("utf-8").splitlines()) == 12
        (source / "records.jsonl").unlink()
        (source / "3.txt").write_text("the one", "utf-8")
        (source / "4.txt").unlink()
        again = index(source, encoder, store, ray=address, sync=True, **options)
        here = index(source, encoder, local, sync=True, **options)
        assert (again.encoded, again.unchanged, again.removed) == (here.encoded, here.unchanged, here.removed)
        assert again.encoded == 1
        assert again.removed > 300
        assert_same(content(store), content(local))
