"""On a Ray cluster of two nodes a run ends as it does in one process."""

import faulthandler
import json
import logging
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from contents import assert_same, content
from killing import BATCH, KILLS, RECORDS, WORDS, check, run, texts_of, write
from store_kinds import chroma_run

from m3core import InvalidInput, M3Encoder
from m3stores import ChromaStore, HybridStore, QdrantStore
from m3stores.pipeline import index

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


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


@pytest.fixture(scope="module")
def encoder(m3_dir: Path) -> M3Encoder:
    return M3Encoder(m3_dir, dtype="float32", device="cpu", engine="torch")


def test_an_embedded_collection_is_the_same(address: str, source: Path, encoder: M3Encoder, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("kind", ["qdrant", "chroma"])
def test_a_collection_on_a_server_is_the_same_from_many_writers(
    address: str, source: Path, encoder: M3Encoder, tmp_path: Path, kind: str
) -> None:
    from qdrant_standin import RestServer

    with ExitStack() as stack:
        if kind == "qdrant":
            served = stack.enter_context(RestServer(openapi=os.environ.get("M3_QDRANT_OPENAPI")))
            store: HybridStore = stack.enter_context(QdrantStore("docs", url=served.url))
        else:
            store = stack.enter_context(ChromaStore("docs", url=stack.enter_context(chroma_run(tmp_path / "chroma"))))
        local = stack.enter_context(QdrantStore("local"))
        options = {"tokens": 24, "overlap": 4, "batch_size": 64}
        if kind == "chroma":
            options["modes"] = ["dense", "sparse"]
        here = index(source, encoder, local, **options)
        there = index(source, encoder, store, ray=address, **options)
        assert_same(content(store), content(local))
        assert (there.encoded, there.rejected) == (here.encoded, here.rejected)
        (source / "3.txt").write_text("the one", "utf-8")
        again = index(source, encoder, store, ray=address, **options)
        here = index(source, encoder, local, **options)
        assert (again.encoded, again.unchanged, again.removed) == (here.encoded, here.unchanged, here.removed)
        assert_same(content(store), content(local))


def test_one_processor_is_enough_and_the_connection_is_the_one_asked_for(
    source: Path, encoder: M3Encoder, tmp_path: Path
) -> None:
    from qdrant_standin import RestServer

    faulthandler.dump_traceback_later(200, exit=True)  # processes that wait for each other do so for ever
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    logging.getLogger("ray.data").setLevel(logging.DEBUG)
    try:
        there = ray.get_runtime_context().gcs_address
        port = there.rpartition(":")[2]
        with (
            RestServer(openapi=os.environ.get("M3_QDRANT_OPENAPI")) as served,
            QdrantStore("docs", url=served.url) as remote,
            QdrantStore("local") as local,
            QdrantStore("cluster") as store,
        ):
            expected = index(source, encoder, local)
            assert index(source, encoder, store, ray=f"localhost:{port}").encoded == expected.encoded
            assert index(source, encoder, remote, ray="auto").encoded == expected.encoded
            assert_same(content(store), content(local))
            assert_same(content(remote), content(local))
            for other in (f"192.0.2.1:{port}", "127.0.0.1:1"):
                with pytest.raises(InvalidInput, match=f"connected to the Ray cluster at {there} already"):
                    index(source, encoder, store, ray=other)
        assert ray.is_initialized()
        assert logging.getLogger("ray.data").level == logging.DEBUG
    finally:
        ray.shutdown()
        faulthandler.cancel_dump_traceback_later()


def test_errors_of_an_encoder_say_what_is_wrong_at_once(address: str, m3_dir: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(m3_dir, model)
    with QdrantStore("cluster") as store, M3Encoder(model, device="cpu", engine="torch") as encoder:
        weights = model / "model.safetensors"
        changed = bytearray(weights.read_bytes())
        changed[-1] ^= 1
        weights.write_bytes(changed)
        with pytest.raises(InvalidInput, match=r"^another model lies here") as other:
            index([{"text": "a"}], encoder, store, ray=address)
        assert len(str(other.value).splitlines()) == 1


def test_errors_of_a_source_that_cannot_be_sent(address: str, encoder: M3Encoder) -> None:
    with (
        QdrantStore("cluster") as store,
        pytest.raises(InvalidInput, match=r"^something in the source cannot be sent to another process: [^\n]*$"),
    ):
        index([{"text": "a", "n": threading.Lock()}], encoder, store, ray=address)


def processes(title: str) -> list[int]:
    """The ids of Ray's processes that do such work."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if title in (entry / "cmdline").read_text(errors="replace"):
                    found.append(int(entry.name))
            except OSError:  # it has ended
                continue
    return found


def test_nothing_is_lost_with_processes_that_die(address: str, tmp_path: Path, encoder: M3Encoder) -> None:
    chance = random.Random(4)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(2, 30))) for _ in range(6000)]
    killed: list[str] = []
    over = threading.Event()

    def kill() -> None:
        for work in ("Encoding", "Splitting", "Encoding"):
            while not over.wait(0.2):
                if found := processes(f"ray::MapWorker(MapBatches({work})"):
                    if over.wait(chance.uniform(0.5, 1.5)):
                        return
                    try:
                        os.kill(chance.choice(found), signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                    killed.append(work)
                    break

    with QdrantStore("cluster") as store:
        thread = threading.Thread(target=kill)
        thread.start()
        try:
            summary = index([{"text": text} for text in texts], encoder, store, ray=address, batch_size=64)
        finally:
            over.set()
            thread.join()
        assert len(killed) >= 2
        assert (summary.documents, summary.encoded) == (len(texts), len(texts))
        found = content(store)
    expected = encoder.encode_documents(texts)
    assert {name: held[0].text for name, held in found.items()} == {f"record#{i}": t for i, t in enumerate(texts)}
    dense = np.stack([found[f"record#{i}"][1] for i in range(len(texts))])
    np.testing.assert_allclose(dense, expected.dense, atol=1e-5)


def test_a_run_killed_at_random_ends_as_an_unbroken_one(address: str, m3_dir: Path, tmp_path: Path) -> None:
    """Its own process each time, and one of the cluster's at times."""
    chance = random.Random(9)
    texts, source = texts_of(chance), tmp_path / "records.jsonl"
    write(source, texts)
    arguments = {"model": str(m3_dir), "path": str(tmp_path / "store"), "source": str(source), "batch_size": BATCH}
    there = 0
    for kill in range(KILLS):
        process = run(arguments | {"ray": address})
        assert process.stdout.readline() == "ready\n"
        seen = [process.stdout.readline() for _ in range(chance.choice([0, 0, 1, 1, 2]))]  # of 34 in an unbroken run
        time.sleep(chance.uniform(0, 0.1 if seen else 5))
        if kill % 4 == 3 and (found := processes("ray::MapWorker(MapBatches(")):
            with suppress(ProcessLookupError):
                os.kill(chance.choice(found), signal.SIGKILL)
            time.sleep(chance.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.readlines()
        process.wait()
        with QdrantStore("test", path=arguments["path"]) as store:
            now = store.count()
        stored = [int(line.split()[1]) for line in seen if line.startswith("stored ")]  # Ray has things to say too
        assert there + sum(stored) <= now, f"kill {kill}"
        there = now
    assert 0 < there < RECORDS
    lines = run(arguments | {"ray": address}).communicate()[0].splitlines()
    report = json.loads(next(line for line in lines if line.startswith("{")))
    assert (report["unchanged"], report["encoded"]) == (there, RECORDS - there)
    check(QdrantStore("test", path=arguments["path"]), texts, M3Encoder(m3_dir, dtype="float32", device="cpu"))
