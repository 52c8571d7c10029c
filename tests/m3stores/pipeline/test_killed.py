"""`kill -9` at any moment, and the same command again: nothing is lost, nothing there twice, and little done twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import indexing_script
import numpy as np
import pytest

from m3core import M3Encoder, Record
from m3stores import QdrantStore

RECORDS, KILLS, BATCH = 20_000, 20, 600
WORDS = ["the", "one", "of", "me", "it", "中国", "人", "说", "的", "是", "大", "a", "b", "c", "d", "1", "2", "3"]


def run(arguments: dict[str, object]) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, indexing_script.__file__, json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)


@pytest.mark.slow
def test_a_run_killed_at_random_ends_as_an_unbroken_one(m3_dir: Path, tmp_path: Path) -> None:
    chance = random.Random(8)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(2, 30))) for _ in range(RECORDS)]
    source = tmp_path / "records.jsonl"
    source.write_text("".join(json.dumps({"_id": f"r{i}", "text": t, "n": i}) + "\n" for i, t in enumerate(texts)))
    arguments = {"model": str(m3_dir), "path": str(tmp_path / "store"), "source": str(source), "batch_size": BATCH}
    there = 0
    for kill in range(KILLS):
        process = run(arguments)
        assert process.stdout.readline() == "ready\n"
        seen = [process.stdout.readline() for _ in range(chance.randint(0, 6))]  # of 100 in an unbroken run
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.readlines()
        process.wait()
        with QdrantStore("test", path=arguments["path"]) as store:
            now = store.count()
        acknowledged = sum(int(line.split()[1]) for line in seen)
        assert there + acknowledged <= now <= there + acknowledged + BATCH, f"kill {kill}"
        there = now
    assert 0 < there < RECORDS
    process = run(arguments)
    report = json.loads(process.communicate()[0].splitlines()[-1])
    assert (report["unchanged"], report["encoded"]) == (there, RECORDS - there)
    check(QdrantStore("test", path=arguments["path"]), texts, M3Encoder(m3_dir, dtype="float32", device="cpu"))


def check(store: QdrantStore, texts: list[str], encoder: M3Encoder) -> None:
    """Every record is there once, as it is in the source, with the vectors of its text."""
    held: dict[str, tuple[Record, np.ndarray]] = {}
    with store:
        for page in store.scroll(size=1000, with_vectors=True):
            for record, dense in zip(page.records, page.output.dense, strict=True):
                assert record.id not in held
                held[record.id] = record, dense
    assert held.keys() == {f"r{i}" for i in range(RECORDS)}
    assert all(held[f"r{i}"][0] == Record(f"r{i}", text, {"n": i}) for i, text in enumerate(texts))
    expected = encoder.encode_documents(texts, modes=["dense"]).dense
    found = np.stack([held[f"r{i}"][1] for i in range(RECORDS)])
    np.testing.assert_allclose(found, expected, atol=2e-3)
