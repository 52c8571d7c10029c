"""`DaemonPool`: threads for calls that others await."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

Result = TypeVar("Result")


class DaemonPool(Generic[Result]):
    """Runs calls on threads that start as they are needed.

    Unlike those of `concurrent.futures.ThreadPoolExecutor`, they do not keep an interpreter from its end while a call
    still waits for something.
    """

    def __init__(self, name: str, size: int) -> None:
        """Takes what its threads are called, and how many there can be."""
        self._name, self._size = name, size
        self._starting = threading.RLock()
        self._open()

    def _open(self) -> None:
        self._calls: SimpleQueue[_Call[Result] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """Runs `work` as soon as there is a thread for it."""
        call = _Call(work)
        with self._starting:
            self._calls.put(call)
            if not self._idle.acquire(blocking=False) and self._threads < self._size:
                threading.Thread(target=_work, args=(self._calls, self._idle), name=self._name, daemon=True).start()
                self._threads += 1
        return call.future

    def close(self) -> None:
        """Ends the threads behind the calls that there are; one that comes later starts another."""
        with self._starting:
            for _ in range(self._threads):
                self._calls.put(None)
            self._open()


class _Call(Generic[Result]):
    def __init__(self, work: Callable[[], Result]) -> None:
        self.future: Future[Result] = Future()
        self._work = work

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._work())
        except BaseException as error:
            self.future.set_exception(error)
            del self  # which the error's traceback refers to, and which refers to it


def _work(calls: "SimpleQueue[_Call[Result] | None]", idle: threading.Semaphore) -> None:
    while call := calls.get():
        call.run()
        del call  # what it refers to need not wait for the next one
        idle.release()
