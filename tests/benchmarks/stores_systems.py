"""The systems of the store benchmark, and the processes that they run in."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WORKER = Path(__file__).with_name("stores_worker.py")
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class System:
    """Something to measure.

    Attributes:
        name: in the tables.
        kind: what its worker is told.
        ours: whether it runs in this environment.
        fusion: by what its hybrid answers can be checked: the `"sum"` of scores, `"dense"` alone, or not at all.
        workloads: which it can do; empty for all.
        optimized: whether its indexes are built after the records were written.
    """

    name: str
    kind: str
    ours: bool = False
    fusion: str | None = None
    workloads: tuple[str, ...] = ()
    optimized: bool = False

    def does(self, workload: str) -> bool:
        """Whether it can do this."""
        return not self.workloads or workload in self.workloads


SYSTEMS = {
    "qdrant": System("QdrantStore", "QdrantStore", ours=True, fusion="sum"),
    "qdrant-optimized": System("QdrantStore, optimized", "QdrantStore", ours=True, fusion="sum", optimized=True),
    "qdrant-indexed": System(
        "QdrantStore, fields indexed, optimized", "QdrantStore-indexed", ours=True, fusion="sum", optimized=True
    ),
    "chroma": System("ChromaStore", "ChromaStore", ours=True, fusion="sum"),
    "qdrant-client": System("qdrant-client, local mode", "qdrant-client"),
    "langchain-qdrant": System("langchain-qdrant, local mode", "langchain-qdrant"),
    "langchain-chroma": System(
        "langchain-chroma, dense only", "langchain-chroma", fusion="dense", workloads=("dense", "group", "number")
    ),
}


@dataclass
class Measured:
    """What was measured of a system; entries as the worker says.

    Attributes:
        ingest: the writing of all records.
        disk: bytes that the store takes when it is closed.
        optimize: the building of indexes.
        open: the opening by a new process.
        cold: the first queries after that, which read much from the disk; in no table.
        queries: of each workload, one entry a round.
        quit: the memory at the end.
    """

    ingest: dict[str, Any] = field(default_factory=dict)
    disk: int = 0
    optimize: dict[str, Any] = field(default_factory=dict)
    open: dict[str, Any] = field(default_factory=dict)
    cold: dict[str, Any] = field(default_factory=dict)
    queries: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    quit: dict[str, Any] = field(default_factory=dict)

    def all(self, workload: str, what: str) -> list[Any]:
        """The entries of all rounds, one after the other."""
        return [entry for taken in self.queries.get(workload, []) for entry in taken[what]]

    def others(self) -> float:
        """The largest share of the machine that other processes took during a measurement."""
        taken = [self.ingest, *(entry for entries in self.queries.values() for entry in entries)]
        return max(float(entry["others"]) for entry in taken)


class MissingPackageError(Exception):
    """A system's packages are not installed."""


class Worker:
    """A process for one system."""

    def __init__(self, system: System, python: str, about: dict[str, Any]) -> None:
        """Starts it.

        Raises:
            MissingPackageError: says which.
        """
        self.system = system
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the worker)
        environment = dict(os.environ)
        if system.ours:
            environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), str(_ROOT / "integrations")])
        self._process = subprocess.Popen(
            [python, str(_WORKER), json.dumps({"kind": system.kind, **about})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
        )
        ready = self._reply()
        if "missing" in ready:
            self.kill()
            raise MissingPackageError(ready["missing"])
        self.versions: dict[str, str] = ready["versions"]
        self.sample: list[float] = ready["sample"]

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        """Sends one command and waits for its reply."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def close(self) -> dict[str, Any]:
        """Ends the process. Returns the memory that it has had."""
        reply = self.ask("quit")
        self._process.wait()
        self._log.close()
        return reply

    def kill(self) -> None:
        """Ends the process at once, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            sys.exit(f"{self.system.name} failed:\n{self._log.read()[-3000:]}")
        reply: dict[str, Any] = json.loads(line)
        return reply


def disk_bytes(directory: Path) -> int:
    """What the files in it take on the disk; holes in them take nothing."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return sum(getattr(info := path.stat(), "st_blocks", info.st_size / 512) * 512 for path in files)
