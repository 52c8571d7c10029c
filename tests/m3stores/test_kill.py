"""`kill -9` in the middle of inserts, updates and deletes: what was acknowledged is there, in every mode, once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import crashing
import numpy as np
import pytest
from vectors import random_output, records

from m3core import M3Output, Record
from m3stores import HybridStore, QdrantStore

KILLS = 20
SPANS = {"qdrant": 1.0, "chroma": 2.5}  # seconds, opening included
State = dict[str, tuple[Record, M3Output]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", crashing.STORES)
def test_a_collection_survives_being_killed(kind: str, tmp_path: Path) -> None:
    """One collection through all kills, so that each of them also meets what the ones before it left."""
    moments = random.Random(kind)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    acknowledged: State = {}
    following = 0
    for kill in range(KILLS):
        command = [sys.executable, crashing.__file__, kind, str(tmp_path), str(following)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, SPANS[kind] / (3 if kill < 5 else 1)))  # the first while it is made
        process.send_signal(signal.SIGKILL)
        done = process.stdout.read().split()
        process.wait()
        for number in map(int, done):
            assert number == following
            apply(number, acknowledged)
            following += 1
        with crashing.opened(kind, tmp_path) as store:
            check(store, acknowledged, following, f"kill {kill}")
    assert following > 50


def apply(number: int, state: State) -> None:
    ids, output = crashing.step(number)
    if output is None:
        for identifier in ids:
            state.pop(identifier, None)
    state.update({record.id: (record, own) for record, own in crashing.written(number)})


def check(store: HybridStore, acknowledged: State, under_way: int, when: str) -> None:
    """All is as acknowledged; each record of the step that was under way as before it or as after it."""
    after = dict(acknowledged)
    apply(under_way, after)
    held: State = {}
    for page in store.scroll(with_vectors=True):
        for record, own in zip(page.records, page.output, strict=True):
            assert record.id not in held, f"{when}: {record.id} is there twice"
            held[record.id] = record, own
    assert store.count() == len(held)
    for identifier in {*acknowledged, *after, *held}:
        found = held.get(identifier)
        allowed = [state.get(identifier) for state in (acknowledged, after)]
        assert any(same(found, wanted) for wanted in allowed), f"{when}: {identifier} is {found}, not one of {allowed}"
    for mode in store.modes:
        (hits,) = store.search(random_output(1, seed=5), k=crashing.IDS, modes=[mode], candidates=crashing.IDS)
        ids = [hit.id for hit in hits]
        assert len(ids) == len(set(ids))
        if mode != "sparse":  # where only those with a token of the query are found
            assert set(ids) == set(held), f"{when}, {mode}"
    some = random.Random(under_way).sample(sorted(held), min(len(held), 3))
    for identifier in some:
        record, own = held[identifier]
        (hits,) = store.search(
            M3Output(None, own.sparse, None, fingerprint=random_output(1).fingerprint),
            k=crashing.IDS,
            modes=["sparse"],
            candidates=crashing.IDS,
        )
        assert record in [Record(hit.id, hit.text, hit.metadata) for hit in hits], f"{when}: {identifier} by sparse"


def same(found: tuple[Record, M3Output] | None, wanted: tuple[Record, M3Output] | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    record, own = found
    other = wanted[1]
    return (
        record == wanted[0]
        and np.allclose(own.dense, other.dense, atol=1e-6)
        and own.sparse[0].indices.tolist() == other.sparse[0].indices.tolist()
        and np.allclose(own.sparse[0].values, other.sparse[0].values, atol=1e-3)
        and np.allclose(own.multivector[0], other.multivector[0], atol=1e-3)
    )


@pytest.mark.slow
def test_the_log_to_be_read_after_a_crash_stays_bounded(tmp_path: Path) -> None:
    with QdrantStore("test", path=tmp_path) as store:
        for batch in range(24):
            output = M3Output(np.full((1000, 2048), batch, dtype=np.float32))
            store.upsert(records(1000, first=1000 * batch), output)  # 8 MB
        log = sum(file.stat().st_size for file in (tmp_path / "test" / "shard" / "wal").iterdir())
        assert log < 150e6  # of 200 MB; the engine keeps it in files of 32 MB or more
        assert store.count() == 24_000
