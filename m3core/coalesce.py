"""Coalescing: calls from any threads share forward passes, and each gets its own results."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence

from m3core.errors import EncoderClosed
from m3core.lane import Lane, Runner
from m3core.packing import TokenBudget
from m3core.waiting import CLOSED, Inbox, Job, Share, Waiting

FORKED = (
    "this encoder belongs to the process that this one was forked from, and does not work here. Load an encoder in "
    "each process, after the fork, or start processes by spawn: multiprocessing.get_context('spawn')"
)


class Scheduler:
    """Runs the jobs of all threads, on one device or on several that share the work.

    An idle device starts at once. While it is busy texts gather, and go through it together.

    Attributes:
        budget: the most tokens in a pack of more than one text; halves when memory runs out.
    """

    def __init__(self, runners: Sequence[Runner], budget: TokenBudget) -> None:
        """Takes over the runners."""
        self.budget = budget
        self._waiting = Waiting(budget)
        self._runners = list(runners)
        self._lanes: list[Lane] = []
        self._starting = threading.RLock()  # a signal handler may close it meanwhile
        self._process = os.getpid()

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used: it was closed, or belongs to another process."""
        return self._waiting.closed or os.getpid() != self._process

    def check_open(self) -> None:
        """Raises `EncoderClosed` if it can no longer be used."""
        if os.getpid() != self._process:  # before any lock, which a thread of the parent may have held
            raise EncoderClosed(FORKED)
        if self._waiting.closed:
            raise EncoderClosed(CLOSED)

    def run(self, jobs: Iterable[Job], receive: Callable[[Share], object]) -> None:
        """Waits until the jobs of a call are done.

        Args:
            jobs: with one inbox. Each is asked for while the devices work on the one before it, when that is all that
                is left to do.
            receive: is given what each pack made for the call, in this thread, one after the other.

        Raises:
            OutOfMemory: a single text does not fit; the message gives its length.
            EncoderClosed: it was closed before the jobs were done.
            BaseException: what was put into the inbox to end the call.
        """
        self.check_open()
        self._start()
        added: list[Job] = []
        left = 0
        try:
            for job in jobs:
                self._waiting.add(job)
                added.append(job)
                left = _received(job.inbox, left + job.size, receive, until=job.size)
            if added:
                _received(added[-1].inbox, left, receive, until=0)
        finally:
            for job in added:
                self._waiting.drop(job)

    def close(self, patience: float | None = None) -> None:
        """Ends the lanes, and lets go of the model. Jobs that are not done fail.

        Args:
            patience: seconds to wait for each lane; `None` is as long as it takes.
        """
        self._waiting.close()
        with self._starting:
            runners, self._runners = self._runners, []
            lanes, self._lanes = self._lanes, []
        for runner in runners:
            runner.close()
        for lane in lanes:
            if lane is not threading.current_thread():  # where garbage was collected
                lane.join(patience)

    def _start(self) -> None:
        if not self._lanes:
            with self._starting:
                lanes = [] if self._lanes else [Lane(runner, self._waiting, self.budget) for runner in self._runners]
                try:
                    for lane in lanes:
                        lane.start()
                except RuntimeError:  # the system has no threads left: none of them, then
                    self._waiting.close()
                    raise
                self._lanes = self._lanes or lanes


def _received(inbox: Inbox, left: int, receive: Callable[[Share], object], *, until: int) -> int:
    """Receives what comes until at most so many of the texts that are left remain; how many those are."""
    while left > until:
        answer = inbox.get()
        try:
            if isinstance(answer, BaseException):
                raise answer
            receive(answer)
            left -= len(answer.members)
        finally:
            del answer  # the traceback of an error refers to this frame
    return left
