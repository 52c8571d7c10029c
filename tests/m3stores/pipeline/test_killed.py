"""`kill -9` at any moment, and the same command again: nothing is lost, nothing there twice, and little done twice."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
from killing import BATCH, KILLS, RECORDS, check, run, texts_of, write

from m3core import M3Encoder
from m3stores import QdrantStore


@pytest.mark.slow
def test_a_run_killed_at_random_ends_as_an_unbroken_one(m3_dir: Path, tmp_path: Path) -> None:
    chance = random.Random(8)
    texts, source = texts_of(chance), tmp_path / "records.jsonl"
    write(source, texts)
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
