"""Measures what calls gain that share forward passes, and how long a query waits beside documents. See README.md.

python tests/benchmarks/coalescing.py                           # m3-mini
python tests/benchmarks/coalescing.py --layers 6                # random weights of bge-m3's shape
python tests/benchmarks/coalescing.py --before ../older-checkout  # the time of a lone query, beside another version
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from encoding.models import build_model, read_tokenizer
from encoding.texts import ROOT, make_passages, make_queries
from machine import measured

from m3core import M3Encoder

_THREADS = 64
_LONE = """
import sys, time
from m3core import M3Encoder
encoder = M3Encoder(sys.argv[1])
for line in sys.stdin:
    taken = []
    for _ in range(int(line)):
        start = time.perf_counter()
        encoder.encode_queries(["谁来监督算法？"])
        taken.append(time.perf_counter() - start)
    print(sorted(taken)[len(taken) // 2], flush=True)
"""


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, help="of a model of bge-m3's shape, which has 24; default: m3-mini")
    parser.add_argument("--documents", type=int, default=2000, help="in the job that queries run beside")
    parser.add_argument("--calls", type=int, default=640, help="of one query each")
    parser.add_argument("--before", type=Path, help="a checkout of another version, for the time of a lone query")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        model = "m3-mini"
        if options.layers:
            model = temporary
            build_model(Path(temporary), options.layers)
        print("| | |\n|---|---|")
        with M3Encoder(model) as encoder:
            encoder.warm_up()
            throughput(encoder, options.calls)
            latency(encoder, options.documents)
        if options.before:
            lone(model, options.before)


def throughput(encoder: M3Encoder, calls: int) -> None:
    """Single queries one at a time, from many threads at once, and all in one call."""
    queries = (make_queries(20) * (calls // 20 + 1))[:calls]
    tokens = sum(len(encoder.tokenize(query)) + 2 for query in queries)

    def by_threads() -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda query: encoder.encode_queries([query]), queries))

    def rate(work: Callable[[], object]) -> float:
        with measured() as taken:
            work()
        return tokens / taken["seconds"]

    few = queries[: calls // 8]
    apart = rate(lambda: [encoder.encode_queries([query]) for query in few]) * len(few) / calls
    together, batch = rate(by_threads), rate(lambda: encoder.encode_queries(queries))
    show("single queries one at a time, tokens/s", f"{apart:,.0f}")
    show(f"the same from {_THREADS} threads", f"{together:,.0f}: {together / apart:.1f} times as many")
    show("the same in one call", f"{batch:,.0f}; the threads reach {together / batch:.0%}")


def latency(encoder: M3Encoder, documents: int) -> None:
    """A query every few milliseconds while a long job runs."""
    passages = make_passages(min(documents, 200), 0.8, read_tokenizer())
    passages = (passages * (documents // len(passages) + 1))[:documents]
    queries = make_queries(30)
    alone = percentiles([timed(encoder, query) for query in queries * 3])
    pack = np.median([pack_seconds(encoder) for _ in range(5)])
    beside: list[float] = []
    job = threading.Thread(target=encoder.encode_documents, args=(passages,))
    start = time.perf_counter()
    job.start()
    time.sleep(0.5)  # until the documents are tokenized
    while job.is_alive():
        beside.append(timed(encoder, queries[len(beside) % len(queries)]))
        time.sleep(0.02)
    taken = time.perf_counter() - start
    show("a query alone, ms, p50 / p95", alone)
    show(f"a query beside a job of {documents} documents ({taken:.0f} s, {len(beside)} queries)", percentiles(beside))
    show("for comparison: a pack of one document of 512 tokens, ms", f"{pack * 1000:.1f}")


def pack_seconds(encoder: M3Encoder) -> float:
    """How long one document of 512 tokens takes."""
    start = time.perf_counter()
    encoder.encode_documents(["的 " * 255])
    return time.perf_counter() - start


def timed(encoder: M3Encoder, query: str) -> float:
    """How long one query takes."""
    start = time.perf_counter()
    encoder.encode_queries([query])
    return time.perf_counter() - start


def lone(model: str, before: Path) -> None:
    """One query at a time, in this version and in another one by turns."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _LONE, model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(folder)},
        )
        for folder in (before.resolve(), ROOT)
    ]
    rounds = [[ask(worker, 100) for worker in workers] for _ in range(12)][2:]
    for worker in workers:
        worker.communicate()
    old, new = np.median(rounds, axis=0) * 1000
    apart = np.median([b - a for a, b in rounds]) * 1000
    show("a lone query, ms, before / now (median of rounds)", f"{old:.2f} / {new:.2f}: {apart:+.2f} in a round")


def ask(worker: "subprocess.Popen[str]", calls: int) -> float:
    """The median of some calls in a process."""
    worker.stdin.write(f"{calls}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def percentiles(seconds: Sequence[float]) -> str:
    """The middle, and what 95 of 100 do not exceed."""
    return " / ".join(f"{value * 1000:.1f}" for value in np.percentile(seconds, [50, 95]))


def show(what: str, value: str) -> None:
    """A row of the table."""
    print(f"| {what} | {value} |", flush=True)


if __name__ == "__main__":
    main()
