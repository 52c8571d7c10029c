"""What benchmarks ask the machine: how busy it is, how much memory a process has. Needs nothing but Python itself."""

import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_IDLE = 0.1


def processor_name() -> str:
    """The processor's model, as far as the system says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def peak_memory() -> int:
    """The most memory that this process has had resident, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # rusage counts the parent's memory at the fork as well
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident() -> dict[str, int]:
    """Bytes of memory that this process has: `all`, and `own` without files that are mapped. 0 if not known."""
    if not Path("/proc/self/status").is_file():
        return {"all": 0, "own": 0}
    return {"all": _status("VmRSS"), "own": _status("RssAnon")}


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


def busy_seconds() -> float:
    """Processor seconds that everything on the machine has used since it started; 0 where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return 0.0
    user, nice, system, _idle, _iowait, *interrupts = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def measured() -> Iterator[dict[str, Any]]:
    """Fills in how long the block took, and which share of the machine other processes had meanwhile."""
    taken: dict[str, Any] = {}
    busy, wall, processor = busy_seconds(), time.perf_counter(), _own_seconds()
    yield taken
    taken["seconds"] = time.perf_counter() - wall
    taken["processor_seconds"] = _own_seconds() - processor
    others = busy_seconds() - busy - taken["processor_seconds"]
    taken["others"] = max(0.0, others / (taken["seconds"] * (os.cpu_count() or 1)))


def _own_seconds() -> float:
    """Processor seconds of this process and of the children that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def await_quiet(patience: float) -> None:
    """Waits until the machine has been idle for a second, but not longer than `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        busy = busy_seconds()
        time.sleep(1)
        if busy_seconds() - busy < _IDLE:
            return
