"""`kill -9` in the middle of indexing: what was acknowledged is there, in every mode, once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from vectors import random_output, records

from m3core import M3Output
from m3stores import QdrantStore

BATCH = 20
WRITE = f"""
import sys
from m3stores import QdrantStore
from vectors import random_output, records
print("ready", flush=True)
store = QdrantStore("test", path=sys.argv[1])
for batch in range(int(sys.argv[2]), 100_000):
    store.upsert(records({BATCH}, first={BATCH} * batch), random_output({BATCH}, seed=batch))
    print(batch, flush=True)
"""


@pytest.mark.slow
def test_a_collection_survives_being_killed_while_it_is_indexed(tmp_path: Path) -> None:
    """One collection through ten kills, so that each of them also meets what the ones before it left."""
    moments = random.Random(0)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    acknowledged = 0
    for kill in range(10):
        command = [sys.executable, "-c", WRITE, str(tmp_path), str(acknowledged)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.03) if kill < 3 else moments.uniform(0.0, 0.4))  # the first while it is made
        process.send_signal(signal.SIGKILL)
        last = process.stdout.read().split()
        process.wait()
        if last:
            acknowledged = int(last[-1]) + 1
        with QdrantStore("test", path=tmp_path) as store:
            kept = acknowledged * BATCH
            some = kept + BATCH  # of the batch that was under way, some or all may be there
            held = [record.id for record in store.get([f"doc {i}" for i in range(some + BATCH)])]
            assert len(held) == store.count() <= some
            assert held[:kept] == [f"doc {i}" for i in range(kept)], f"kill {kill} lost records"
            for mode in store.modes:
                (hits,) = store.search(random_output(1, seed=5), k=some, modes=[mode], candidates=some)
                found = [hit.id for hit in hits]
                assert len(found) == len(set(found))
                if mode == "sparse":  # only those with a token of the query
                    continue
                assert set(held) == set(found), f"kill {kill}, {mode}"
            for batch in random.Random(kill).sample(range(acknowledged), min(acknowledged, 3)):
                own = random_output(BATCH, seed=batch)
                for row, hits in enumerate(store.search(own, k=some, modes=["sparse"], candidates=some)):
                    assert f"doc {BATCH * batch + row}" in [hit.id for hit in hits]
    assert acknowledged > 20


@pytest.mark.slow
def test_the_log_to_be_read_after_a_crash_stays_bounded(tmp_path: Path) -> None:
    with QdrantStore("test", path=tmp_path) as store:
        for batch in range(24):
            output = M3Output(np.full((1000, 2048), batch, dtype=np.float32))
            store.upsert(records(1000, first=1000 * batch), output)  # 8 MB
        log = sum(file.stat().st_size for file in (tmp_path / "test" / "shard" / "wal").iterdir())
        assert log < 150e6  # of 200 MB; the engine keeps it in files of 32 MB or more
        assert store.count() == 24_000
