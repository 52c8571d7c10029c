"""The systems of the encoder benchmark, each in a worker process that lives through all rounds."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from encoders_texts import ROOT
from machine import await_quiet

FloatArray = npt.NDArray[np.float64]

_WORKER = Path(__file__).with_name("encoders_worker.py")
ALL_MODES = ["dense", "sparse", "multivector"]


@dataclass(frozen=True)
class System:
    """Something to measure: how it is called in the tables, and what its worker is told."""

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether it is compared, rather than compared with."""
        return self.kind == "m3core"


FLOAT32 = System("m3core float32, three modes", "m3core", {"dtype": "float32", "modes": ALL_MODES})
OURS = (
    System("m3core bfloat16, three modes", "m3core", {"dtype": "bfloat16", "modes": ALL_MODES}),
    FLOAT32,
    System("m3core bfloat16, dense", "m3core", {"dtype": "bfloat16", "modes": ["dense"]}),
)
PEERS = (
    System("FlagEmbedding, three modes", "flagembedding"),
    System("sentence-transformers, dense", "sentence-transformers"),
)


@dataclass
class Measured:
    """What the rounds gave, one entry a round; `seconds`, `milliseconds` and so on as the worker says."""

    passages: list[dict[str, Any]] = field(default_factory=list)
    queries: list[dict[str, Any]] = field(default_factory=list)
    peak_memory: int = 0

    def seconds(self) -> FloatArray:
        """Of wall-clock time for the passages."""
        return np.array([taken["seconds"] for taken in self.passages])

    def processor_seconds(self) -> FloatArray:
        """Of processor time for the passages."""
        return np.array([taken["processor_seconds"] for taken in self.passages])

    def milliseconds(self) -> FloatArray:
        """Of each query, `(rounds, queries)`."""
        return np.array([taken["milliseconds"] for taken in self.queries])

    def others(self) -> float:
        """The share of the machine that other processes took: the mean over rounds and workloads."""
        return float(np.mean([taken["others"] for taken in (*self.passages, *self.queries)]))


class Worker:
    """A system's process."""

    def __init__(self, system: System, python: str, model: Path, threads: int, peers_batch: int | None) -> None:
        self.system = system
        self.measured = Measured()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the worker)
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
        options = system.options | {"kind": system.kind, "model": str(model), "threads": threads}
        if system.ours:
            environment["PYTHONPATH"] = str(ROOT)
        elif peers_batch is not None:
            options["batch_size"] = peers_batch
        self._process = subprocess.Popen(
            [python, str(_WORKER), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
        )
        self.versions: dict[str, str] = self._reply()

    def ask(self, do: str, texts: list[str] | None = None) -> dict[str, Any]:
        """Sends one command and waits for its reply."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "texts": texts or []}) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def run_round(self, passages: list[str], queries: list[str], patience: float) -> None:
        """Measures both workloads once, each when the machine is quiet."""
        await_quiet(patience)
        self.measured.passages.append(self.ask("passages", passages))
        await_quiet(patience)
        self.measured.queries.append(self.ask("queries", queries))

    def close(self) -> None:
        """Ends the process, and notes how much memory it has had."""
        if self._process.poll() is None:
            self.measured.peak_memory = self.ask("quit")["peak_memory"]
            self._process.wait()
        self._log.close()

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            sys.exit(f"{self.system.name} failed:\n{self._log.read()[-3000:]}")
        reply: dict[str, Any] = json.loads(line)
        return reply
