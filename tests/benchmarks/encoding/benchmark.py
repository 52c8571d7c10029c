"""One run of the encoder benchmark."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from machine import await_quiet, processor_name
from rich.console import Console

from encoding.agreement import compare
from encoding.models import SHAPES, build_model, read_tokenizer
from encoding.processes import FailedError, Interpreters, Worker
from encoding.results import Measured, Results
from encoding.systems import REFERENCE, System, ours, peers
from encoding.texts import make_passages, make_queries
from encoding.workloads import MODES, full_documents, make_workloads

_WARM_QUERIES, _WARM_PASSAGES, _COMPARED = 4, 8, 12


class Benchmark:
    """Builds the model, and measures all systems on it by turns, one process at a time.

    Attributes:
        results: what was measured so far.
    """

    def __init__(self, options: argparse.Namespace, directory: Path, console: Console) -> None:
        self._options, self._directory, self._console = options, directory, console
        self._shape = SHAPES[options.shape]
        tokenizer = read_tokenizer(options.shape)
        sizes = {name: getattr(options, name) for name in ("queries", "passages", "documents", "spread")}
        self._workloads = make_workloads(options.workloads, tokenizer, self._shape.max_length, **sizes)
        self._full = full_documents(tokenizer, self._shape.max_length) if "long" in options.workloads else []
        self._compared = make_passages(_COMPARED, options.spread, tokenizer, self._shape.max_length)
        self._query = make_queries(1)[0]
        self._model, parameters = self._build()
        self.results = Results(self._conditions(parameters))
        self._systems: dict[str, System] = {}
        self._pythons: dict[str, str] = {}
        self._prepare(self._wanted())

    def run(self) -> None:
        """Measures everything, and writes the JSON file after each system."""
        reference = self._directory / "reference.npz"
        with self._start(REFERENCE, sys.executable) as worker:
            self._write_vectors(worker, REFERENCE, reference)
        for turn in range(self._options.rounds):
            for key in self._systems:
                self._attempt(key, f"round {turn + 1}/{self._options.rounds}", self._round, turn, reference)
        for key in self._systems:
            if self._full:
                self._attempt(key, "memory", self._measure_full)

    def _build(self) -> tuple[Path, int]:
        """The model's folder, built if it is not there, and the number of its parameters."""
        layers = self._options.layers or self._shape.layers
        full = self._options.full_vocabulary
        model = self._directory / f"{self._options.shape}-{layers}{'-full' if full else ''}"
        note = model / "parameters.json"
        if not note.is_file():
            self._console.print(f"building the model, {layers} layers")
            model.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps(build_model(model, layers, self._options.shape, full_vocabulary=full)))
        return model, json.loads(note.read_text())

    def _conditions(self, parameters: int) -> dict[str, Any]:
        kept = ("shape", "threads", "rounds", "budget", "spread", "full_vocabulary", "peers_batch")
        return {
            "date": str(date.today()),
            "processor": processor_name(),
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "about": self._shape.about,
            "modes": self._shape.modes,
            "layers": self._options.layers or self._shape.layers,
            "parameters": parameters,
            "workloads": {name: workload.lengths.as_dict() for name, workload in self._workloads.items()},
            **{name: getattr(self._options, name) for name in kept},
        }

    def _wanted(self) -> list[System]:
        """The systems that can do this shape, and are among those asked for."""
        there = [
            s
            for s in (*map(ours, self._options.ours), *peers(self._options.peers_batch))
            if self._options.shape in s.shapes
        ]
        if len({system.key for system in there}) < len(there):
            sys.exit("two systems have the same key: --ours names each by the values of its options")
        asked = self._options.systems or [system.key for system in there]
        if unknown := set(asked) - {system.key for system in there}:
            sys.exit(f"no system {', '.join(sorted(unknown))}; there are {', '.join(s.key for s in there)}")
        return [system for system in there if system.key in asked]

    def _prepare(self, wanted: list[System]) -> None:
        """Finds an interpreter for each system, and makes the files that it needs; leaves out those without."""
        interpreters = Interpreters(self._options.peers_python, [s for s in wanted if not s.ours])
        for system in wanted:
            try:
                python = sys.executable if system.ours else interpreters.having(system.packages)
                for step in system.prepared:
                    interpreters.prepare(step, self._model, self._console)
            except FailedError as error:
                self.results.left_out[system.name] = str(error)
                self._console.print(f"{system.name} is left out: {error}")
                continue
            self._systems[system.key], self._pythons[system.key] = system, python
            self.results.systems[system.key] = Measured(system.name, system.ours, system.options)

    def _attempt(self, key: str, what: str, measure: Callable[..., None], *about: Any) -> None:
        """Measures a system, unless it has failed before."""
        measured = self.results.systems[key]
        if measured.failed:
            return
        self._console.print(f"{what}: {measured.name}")
        try:
            measure(self._systems[key], measured, *about)
        except FailedError as error:
            measured.failed = str(error)
            self._console.print(f"  failed: {error}")
        if self._options.json:
            self.results.write(self._options.json)

    def _start(self, system: System, python: str) -> Worker:
        await_quiet(self._options.patience)
        modes = MODES[system.sets(self._shape.modes)[-1]]
        return Worker(system, python, self._model, self._options.threads, self._query, modes)

    def _round(self, system: System, measured: Measured, turn: int, reference: Path) -> None:
        """All workloads in one process, the longer ones after the memory has been read."""
        cells = [
            (name, modes)
            for name, workload in self._workloads.items()
            for modes in workload.sets(system.sets(self._shape.modes))
            if max(measured.seconds(f"{name}/{modes}").values(), default=0.0) <= self._options.budget
        ]
        if not cells:
            return
        self._start(system, self._pythons[system.key]).close()  # so that the next one finds its files in memory
        with self._start(system, self._pythons[system.key]) as worker:
            taken = measured.rounds[turn] = {"start": worker.start, "cells": {}}
            measured.versions = worker.versions
            widest = MODES[system.sets(self._shape.modes)[-1]]
            queries = make_queries(_WARM_QUERIES)
            worker.ask("warm_up", queries=queries, texts=self._compared[:_WARM_PASSAGES], modes=widest)
            if turn == 0:
                found = self._directory / "found.npz"
                self._write_vectors(worker, system, found)
                measured.agreement = compare(found, reference)
            for name, modes in cells:
                if name in ("queries", "chunks"):
                    taken["cells"][f"{name}/{modes}"] = self._measure(worker, name, modes)
            if "chunks" in {name for name, _ in cells}:
                taken["memory"] = worker.ask("memory")["bytes"]
            for name, modes in cells:
                if name not in ("queries", "chunks"):
                    taken["cells"][f"{name}/{modes}"] = self._measure(worker, name, modes)

    def _measure(self, worker: Worker, name: str, modes: str) -> dict[str, Any]:
        workload = self._workloads[name]
        await_quiet(self._options.patience)
        do = "queries" if workload.singly else "passages"
        taken = worker.ask(do, texts=workload.texts, modes=MODES[modes], long=workload.long)
        rate = len(workload.texts) / taken["seconds"]
        self._console.print(f"  {name}, {modes}: {rate:.2f} texts/s; others took {taken['others']:.0%}")
        return taken

    def _measure_full(self, system: System, measured: Measured) -> None:
        """The memory that documents as long as can be need."""
        with self._start(system, self._pythons[system.key]) as worker:
            modes = MODES[system.sets(self._shape.modes)[-1]]
            worker.ask("passages", texts=self._full, modes=modes, long=True)
            measured.full = worker.ask("memory")["bytes"]
        self._console.print(f"  {measured.full / 1e9:.2f} GB")

    def _write_vectors(self, worker: Worker, system: System, path: Path) -> None:
        modes = MODES[system.sets(self._shape.modes)[-1]]
        worker.ask("vectors", texts=self._compared, modes=modes, to=str(path))
