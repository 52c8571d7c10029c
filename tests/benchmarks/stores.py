"""Measures QdrantStore and ChromaStore beside qdrant-client's local mode and LangChain's stores. See README.md."""

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
from machine import await_quiet, processor_name
from rich.console import Console
from stores_data import WORKLOADS, Corpus
from stores_report import show
from stores_systems import SYSTEMS, Measured, MissingPackageError, System, Worker, disk_bytes
from stores_truth import Truth

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000, help="of the corpus; 10000")
    parser.add_argument("--queries", type=int, default=50, help="of each workload in each round; 50")
    parser.add_argument("--rounds", type=int, default=3, help="of queries, 3; all systems take turns in each")
    parser.add_argument(
        "--budget",
        type=float,
        default=1.0,
        help="seconds for the queries of one workload in one round, 1: a system that is too slow for all of them "
        "is measured with fewer, but at least one",
    )
    parser.add_argument(
        "--peers-python", help="the interpreter of the peers' environment; without it, only our stores run"
    )
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, metavar="SYSTEM", help=f"only these, of {', '.join(SYSTEMS)}"
    )
    parser.add_argument(
        "--migrate", action="store_true", help="also move all records from QdrantStore to new stores of both kinds"
    )
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds to wait for a quiet machine before each measurement"
    )
    parser.add_argument("--directory", type=Path, help="where the stores are, while it runs; a temporary directory")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus")
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    return parser.parse_args()


class Benchmark:
    """One run."""

    def __init__(self, options: argparse.Namespace, directory: Path, stack: ExitStack) -> None:
        self.options = options
        self.measured: dict[str, Measured] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.moves: list[dict[str, Any]] = []
        self._directory = directory
        self._stack = stack
        self._corpus = Corpus(options.records, options.seed)
        self._sample = self._corpus.sample()

    def ingest(self, system: System) -> None:
        """Fills a system's store, in a process that ends with that."""
        try:
            worker = self._start(system)
        except MissingPackageError as error:
            console.print(f"{system.name} is left out: {error}")
            return
        if not np.allclose(worker.sample, self._sample, rtol=1e-4):
            sys.exit(f"{system.name} would have another corpus: {worker.sample}, not {self._sample}")
        measured = self.measured[system.name] = Measured()
        self.versions[system.name] = worker.versions
        await_quiet(self.options.patience)
        measured.ingest = worker.ask("ingest")
        if system.optimized:
            await_quiet(self.options.patience)
            measured.optimize = worker.ask("optimize")
        worker.close()
        measured.disk = disk_bytes(self._place(system.name))
        rate = self.options.records / measured.ingest["seconds"]
        optimized = f", optimized in {measured.optimize['seconds']:.1f} s" if system.optimized else ""
        console.print(f"{system.name}: {rate:.0f} records/s{optimized}")

    def query(self, systems: list[System]) -> None:
        """Opens all stores, each in a process, and asks them by turns."""
        workers = []
        for system in systems:
            await_quiet(self.options.patience)
            workers.append(self._start(system))
            measured = self.measured[system.name]
            measured.open = workers[-1].ask("open")
            workload = next(workload for workload in WORKLOADS if system.does(workload))
            measured.cold = workers[-1].ask("queries", workload=workload, budget=self.options.budget)
        for turn in range(self.options.rounds):
            for workload in WORKLOADS:
                for worker in workers:
                    if worker.system.does(workload):
                        await_quiet(self.options.patience)
                        taken = worker.ask("queries", workload=workload, budget=self.options.budget)
                        self.measured[worker.system.name].queries.setdefault(workload, []).append(taken)
            console.print(f"round {turn + 1}/{self.options.rounds} of queries done")
        for worker in workers:
            self.measured[worker.system.name].quit = worker.close()

    def recalls(self, systems: list[System]) -> dict[str, dict[str, float | None]]:
        """How much of what exact searches find each system has found, by workload."""
        truth = Truth(self._corpus, self.options.queries)
        recalls: dict[str, dict[str, float | None]] = {}
        for system in systems:
            rounds = self.measured[system.name].queries
            recalls[system.name] = {
                workload: truth.recall(system.fusion, workload, max((t["found"] for t in taken), key=len))
                for workload, taken in rounds.items()
            }
        return recalls

    def migrate(self) -> None:
        """Moves what is in QdrantStore into new stores."""
        source = SYSTEMS["qdrant"]
        for kind in ("ChromaStore", "QdrantStore"):
            await_quiet(self.options.patience)
            worker = self._start(source)
            target = self._place(f"moved to {kind}")
            self.moves.append(worker.ask("move", to=kind, target=str(target)) | {"disk": disk_bytes(target)})
            worker.kill()
            console.print(f"moved to {kind}")

    def _place(self, name: str) -> Path:
        place = self._directory / name.replace(",", "").replace(" ", "-")
        place.mkdir(exist_ok=True)
        return place

    def _start(self, system: System) -> Worker:
        about = {name: getattr(self.options, name) for name in ("records", "queries", "seed")}
        python = sys.executable if system.ours else self.options.peers_python
        worker = Worker(system, python, {"path": str(self._place(system.name)), **about})
        self._stack.callback(worker.kill)
        return worker


def main() -> None:
    """Runs the benchmark."""
    options = arguments()
    wanted = [SYSTEMS[name] for name in SYSTEMS if name in (options.systems or SYSTEMS)]
    wanted = [system for system in wanted if system.ours or options.peers_python]
    if options.migrate and SYSTEMS["qdrant"] not in wanted:
        sys.exit("--migrate moves from QdrantStore: it has to be among --systems")
    conditions = describe(options)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory, ExitStack() as stack:
        benchmark = Benchmark(options, Path(directory), stack)
        for system in wanted:
            benchmark.ingest(system)
        there = [system for system in wanted if system.name in benchmark.measured]
        benchmark.query(there)
        recalls = benchmark.recalls(there)
        if options.migrate:
            benchmark.migrate()
    show(console, options.records, benchmark.measured, recalls, benchmark.moves)
    for name, versions in benchmark.versions.items():
        console.print(f"{name}: {', '.join(f'{package} {version}' for package, version in versions.items())}")
    if options.json:
        systems = {
            name: vars(measured) | {"versions": benchmark.versions[name], "recall": recalls[name]}
            for name, measured in benchmark.measured.items()
        }
        content = conditions | {"systems": systems, "moves": benchmark.moves}
        options.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """Prints and returns what the numbers depend on."""
    processor, cores = processor_name(), len(os.sched_getaffinity(0))
    console.print(f"{date.today()}, {processor}, {cores} cores, Python {platform.python_version()}")
    console.print(f"{options.records} records; {options.rounds} rounds of {options.queries} queries a workload")
    names = ("records", "queries", "rounds", "budget", "seed")
    about = {name: getattr(options, name) for name in names}
    return {"date": str(date.today()), "processor": processor, "cores": cores, **about}


if __name__ == "__main__":
    main()
