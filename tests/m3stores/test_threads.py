"""One store shared by eight threads that read and write."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from store_kinds import KINDS
from vectors import random_output, records

THREADS, ROUNDS, BATCH = 8, 4, 10


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_nothing_is_lost_and_nothing_is_mixed_up(kind, tmp_path: Path) -> None:
    for package in kind.needs:
        pytest.importorskip(package)
    start = threading.Barrier(THREADS)

    with kind.place(tmp_path) as opened, opened("threads") as store:

        def work(thread: int) -> None:
            """Writes, finds, rewrites and partly deletes records of its own."""
            start.wait()  # the first writes make the collection, all at once
            for turn in range(ROUNDS):
                first = BATCH * (THREADS * turn + thread)
                output = random_output(BATCH, seed=first)
                own = records(BATCH, first=first)
                store.upsert(own, output)
                assert store.get([record.id for record in own]) == own
                hits = store.search(output, k=3, candidates=50, rerank=True)
                assert all(own[row].id in [hit.id for hit in found] for row, found in enumerate(hits))
                assert store.upsert(own, output) == []
                store.delete([record.id for record in own[:3]])
                assert store.count({"number": {"$gte": first, "$lt": first + BATCH}}) == BATCH - 3

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, range(THREADS)))
        kept = ROUNDS * THREADS * (BATCH - 3)
        assert store.count() == kept
        held = [record.id for page in store.scroll(with_vectors=True) for record in page.records]
        assert len(held) == len(set(held)) == kept
        for mode in ("dense", "multivector"):
            (hits,) = store.search(random_output(1), k=kept, candidates=kept, modes=[mode])
            assert {hit.id for hit in hits} == set(held)
        store.drop()
