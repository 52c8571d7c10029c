"""The processes of the encoder benchmark: a system's, and those that find out which interpreter can run what."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from encoding.systems import STEPS, System
from encoding.texts import ROOT

_BENCHMARKS = Path(__file__).resolve().parents[1]
_FOUND = """
import json, sys
from importlib.util import find_spec
def found(name):
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
print(json.dumps([name for name in sys.argv[1:] if found(name)]))
"""


class FailedError(Exception):
    """A process ended before it had answered."""


class Interpreters:
    """The peers' environments."""

    def __init__(self, pythons: list[str], systems: list[System]) -> None:
        """Finds out which of the packages that systems need each of `pythons` has."""
        wanted = {package for system in systems for package in system.packages}
        wanted |= {package for packages in STEPS.values() for package in packages}
        self._has: dict[str, set[str]] = {}
        self._steps: dict[str, str | None] = {}
        for python in pythons:
            output = subprocess.run([python, "-c", _FOUND, *sorted(wanted)], check=True, capture_output=True, text=True)
            self._has[python] = set(json.loads(output.stdout))

    def having(self, packages: tuple[str, ...]) -> str:
        """The first interpreter that has them all.

        Raises:
            FailedError: says which are missing.
        """
        for python, there in self._has.items():
            if there >= set(packages):
                return python
        raise FailedError(f"no interpreter has {', '.join(packages)}")

    def prepare(self, step: str, model: Path, console: Console) -> None:
        """Runs one step of `encoding.preparing`, unless it has been run on this model.

        Raises:
            FailedError: it cannot be run, or says this.
        """
        if step not in self._steps and not (model / f"{step}.prepared").is_file():
            console.print(f"preparing {step}")
            self._steps[step] = self._run(step, model)
        if why := self._steps.get(step):
            raise FailedError(f"{step} could not be prepared: {why}")

    def _run(self, step: str, model: Path) -> str | None:
        """Why it failed, if it has."""
        command = [self.having(STEPS[step]), "-m", "encoding.preparing", step, str(model)]
        ended = subprocess.run(command, capture_output=True, text=True, env=_environment())
        if ended.returncode:
            return f"ended with {ended.returncode}: {_last_line(ended.stderr)}"
        (model / f"{step}.prepared").touch()
        return None


class Worker:
    """A system's process, which has loaded the model and answered a query.

    Attributes:
        start: the seconds from the start of the process to that answer, and of what: `seconds`, `import`, `load`,
            `query`.
        versions: of the system's packages.
    """

    def __init__(self, system: System, python: str, model: Path, threads: int, query: str, modes: list[str]) -> None:
        """Starts it.

        Raises:
            FailedError: it does not.
        """
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the worker)
        options = {"adapter": system.adapter, "model": str(model), "threads": threads, "options": system.options}
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [python, "-m", "encoding.worker", json.dumps(options | {"query": query, "modes": modes})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(*([ROOT] if system.ours else [])) | {"OMP_NUM_THREADS": str(threads)},
            text=True,
        )
        try:
            reply = self._reply()
        except FailedError:
            self.close()
            raise
        self.versions: dict[str, str] = reply.pop("versions")
        self.start: dict[str, float] = {"seconds": time.perf_counter() - began, **reply}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, **about: Any) -> dict[str, Any]:
        """Sends one command and waits for its reply.

        Raises:
            FailedError: the process has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **about}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the log says why
        return self._reply()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            raise FailedError(f"ended with {code}: {_last_line(self._log.read())}")
        reply: dict[str, Any] = json.loads(line)
        return reply


def _environment(*more: Path) -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(map(str, (_BENCHMARKS, *more)))}


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
