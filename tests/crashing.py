"""A process that writes to a store until it is killed: `crashing.py STORE DIRECTORY FIRST_STEP`. And what it writes."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

from vectors import random_output

from m3core import M3Output, Record
from m3stores import ChromaStore, HybridStore, QdrantStore

IDS = 300
STORES = {"qdrant": QdrantStore, "chroma": ChromaStore}


def opened(kind: str, directory: Path) -> HybridStore:
    return STORES[kind]("test", path=directory)


def step(number: int) -> tuple[list[str], M3Output | None]:
    """The ids that a step writes and their new representations, or that it deletes. Ids come again and again."""
    moment = random.Random(number)
    ids = [f"doc {i}" for i in moment.sample(range(IDS), moment.randint(1, 40))]
    return ids, None if moment.random() < 0.25 else random_output(len(ids), seed=number)


def written(number: int) -> Iterator[tuple[Record, M3Output]]:
    """What a step writes, one by one."""
    ids, output = step(number)
    if output is not None:
        for row, identifier in enumerate(ids):
            metadata = {"step": number, f"only {number % 3}": True}
            yield Record(identifier, f"written by step {number}", metadata), output[row]


def run(store: HybridStore, number: int) -> None:
    ids, output = step(number)
    if output is None:
        store.delete(ids)
    else:
        store.upsert([record for record, _ in written(number)], output)


if __name__ == "__main__":
    kind, directory, first = sys.argv[1:]
    print("ready", flush=True)
    with opened(kind, Path(directory)) as writing:
        for current in range(int(first), 1_000_000):
            run(writing, current)
            print(current, flush=True)
