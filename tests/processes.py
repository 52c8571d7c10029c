"""Other processes: a second one that opens a collection, and a forked child."""

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

OPEN = """
import sys
import m3stores
try:
    getattr(m3stores, sys.argv[1])("test", path=sys.argv[2]).count()
except Exception as error:
    print(type(error).__name__, error)
else:
    print("opened")
"""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


def open_elsewhere(store: str, path: Path) -> str:
    """What a second process says that opens the collection `test`."""
    command = [sys.executable, "-c", OPEN, store, path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def in_a_fork(work, *, with_garbage: bool = False) -> str:
    """What `work` returns or raises in a forked child, which then collects its garbage. It has a minute.

    What other tests left is collected before, unless `with_garbage`.
    """
    if not with_garbage:
        gc.collect()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            answer = str(work())
        except BaseException as error:
            answer = f"{type(error).__name__} {error}"
        os.write(write, answer.encode())
        os.close(write)
        gc.collect()
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return answer
