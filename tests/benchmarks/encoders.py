"""Measures M3Encoder beside FlagEmbedding and sentence-transformers: same weights, texts and threads. See README.md."""

import argparse
import json
import os
import platform
import sys
import tempfile
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from encoders_model import build_model, read_tokenizer
from encoders_systems import FLOAT32, OURS, PEERS, Worker
from encoders_texts import Lengths, make_passages, make_queries
from machine import processor_name
from rich.console import Console
from rich.table import Table

_WARM_UP = 4
console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", help="the interpreter of the peers' environment; without it, only ours runs")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for each system; all cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passages", type=int, default=64)
    parser.add_argument("--queries", type=int, default=30, help="in each round")
    parser.add_argument("--layers", type=int, default=6, help="of the model; bge-m3 has 24")
    parser.add_argument("--spread", type=float, default=0.8, help="standard deviation of the logarithm of lengths")
    parser.add_argument("--peers-batch", type=int, help="a batch size for the peers instead of their defaults")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds to wait for a quiet machine before each measurement"
    )
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    return parser.parse_args()


def main() -> None:
    """Runs the benchmark."""
    options = arguments()
    passages, lengths = make_passages(options.passages, options.spread, read_tokenizer())
    queries = make_queries(options.queries)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        model = Path(temporary)
        parameters = build_model(model, options.layers)
        workers = []
        for system in (*OURS, *(PEERS if options.peers_python else ())):
            python = sys.executable if system.ours else options.peers_python
            workers.append(Worker(system, python, model, options.threads, options.peers_batch))
            stack.callback(workers[-1].kill)
        conditions = describe(options, workers, lengths, parameters)
        agreement = cosines({w.system.name: np.array(w.ask("warmup", queries[:_WARM_UP])["dense"]) for w in workers})
        for turn in range(options.rounds):
            for worker in workers:
                worker.run_round(passages, queries, options.patience)
                taken = worker.measured.passages[-1]
                console.print(
                    f"round {turn + 1}/{options.rounds}  {worker.system.name}: {len(passages) / taken['seconds']:.2f} "
                    f"passages/s; other processes took {taken['others']:.0%} of the machine"
                )
        for worker in workers:
            worker.close()
    ratios = compare(workers)
    show(workers, ratios, agreement, len(passages))
    if options.json:
        measured = {w.system.name: vars(w.measured) | {"versions": w.versions} for w in workers}
        content = conditions | {"systems": measured, "ratios": ratios, "agreement": agreement}
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def describe(options: argparse.Namespace, workers: list[Worker], lengths: Lengths, parameters: int) -> dict[str, Any]:
    """Prints and returns what the numbers depend on."""
    processor = processor_name()
    console.print(f"{date.today()}, {processor}, {options.threads} threads, Python {platform.python_version()}")
    for worker in workers:
        console.print(f"{worker.system.name}: {', '.join(f'{k} {v}' for k, v in worker.versions.items())}")
    console.print(f"Model: random, {options.layers} layers, {parameters / 1e6:.0f} M parameters")
    console.print(f"{lengths}")
    console.print(f"{options.queries} queries a round")
    return {
        "date": str(date.today()),
        "processor": processor,
        "threads": options.threads,
        "layers": options.layers,
        "peers_batch": options.peers_batch,
        "parameters": parameters,
        "passages": lengths.as_dict() | {"spread": options.spread},
        "queries": options.queries,
    }


def cosines(vectors: dict[str, np.ndarray[Any, Any]]) -> dict[str, float]:
    """The lowest cosine of each system's dense vectors with those of m3core in float32: do all do the same work?"""
    unit = {name: v / np.linalg.norm(v, axis=1, keepdims=True) for name, v in vectors.items()}
    return {name: float((v * unit[FLOAT32.name]).sum(1).min()) for name, v in unit.items()}


def compare(workers: list[Worker]) -> list[dict[str, Any]]:
    """For each of ours and each peer, how many times faster ours is: median, lowest and highest of the rounds."""
    found = []
    for ours in (w for w in workers if w.system.ours):
        for peer in (w for w in workers if not w.system.ours):
            entry: dict[str, Any] = {"ours": ours.system.name, "peer": peer.system.name}
            for what, a, b in (
                ("passages", peer.measured.seconds(), ours.measured.seconds()),
                ("processor", peer.measured.processor_seconds(), ours.measured.processor_seconds()),
                ("queries", *(np.median(w.measured.milliseconds(), axis=1) for w in (peer, ours))),
            ):
                rounds = a / b
                entry[what] = [float(np.median(rounds)), float(rounds.min()), float(rounds.max())]
            found.append(entry)
    return found


def show(workers: list[Worker], ratios: list[dict[str, Any]], agreement: dict[str, float], passages: int) -> None:
    """Prints the tables."""
    table = Table("system", "passages/s", "query p50 ms", "query p95 ms", "peak memory GB", "lowest cosine", "others")
    for worker in workers:
        name, measured = worker.system.name, worker.measured
        rates = passages / measured.seconds()
        p50, p95 = np.percentile(measured.milliseconds(), [50, 95])
        table.add_row(
            name,
            spread(float(np.median(rates)), float(rates.min()), float(rates.max())),
            f"{p50:.1f}",
            f"{p95:.1f}",
            f"{measured.peak_memory / 1e9:.2f}",
            f"{agreement[name]:.5f}",
            f"{measured.others():.0%}",
        )
    console.print(table)
    if ratios:
        table = Table("times faster", "than", "passages", "in processor time", "query p50")
        for entry in ratios:
            table.add_row(
                entry["ours"], entry["peer"], *(spread(*entry[k]) for k in ("passages", "processor", "queries"))
            )
        console.print(table)


def spread(median: float, lowest: float, highest: float) -> str:
    """As in `12.3 (11.8..12.9)`."""
    return f"{median:.2f} ({lowest:.2f}..{highest:.2f})"


if __name__ == "__main__":
    main()
