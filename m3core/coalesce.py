"""Coalescing: calls from any threads share forward passes, and each gets its own results."""

import os
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from traceback import clear_frames
from typing import Protocol

from m3core.errors import EncoderClosed, OutOfMemory
from m3core.packing import Group, Pack, PackOutput, TokenBudget
from m3core.waiting import CLOSED, Job, Share, Text, Waiting

_LEAST_BUDGET = 256  # tokens; what does not fit then will not fit at all

FORKED = (
    "this encoder belongs to the process that this one was forked from, and does not work here. Load an encoder in "
    "each process, after the fork, or start processes by spawn: multiprocessing.get_context('spawn')"
)


class Runner(Protocol):
    """A model on a device.

    Attributes:
        interruptible: whether it calls `between`.
    """

    interruptible: bool

    def run(self, pack: Pack, groups: Sequence[Group], between: Callable[[], object]) -> list[PackOutput]:
        """Puts a pack through the model; in one thread only.

        Args:
            pack: the texts.
            groups: what is wanted of them, in their order.
            between: is called before each layer, and may run another pack, or raise an error to end this one.

        Returns:
            What was made of each group.

        Raises:
            OutOfMemory: the pack is too large.
        """
        ...

    def close(self) -> None:
        """Ends it, also from another thread, while it runs a pack."""
        ...


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

    def run(self, job: Job, receive: Callable[[Share], object]) -> None:
        """Waits until a job is done.

        Args:
            job: what to do.
            receive: is given what each pack made for the job, in this thread, one after the other.

        Raises:
            OutOfMemory: a single text does not fit; the message gives its length.
            EncoderClosed: it was closed before the job was done.
            BaseException: what was put into the job's inbox to end it.
        """
        self.check_open()
        self._start()
        left = job.size
        answer: Share | BaseException | None = None
        try:
            self._waiting.add(job)
            while left:
                answer = job.inbox.get()
                if isinstance(answer, BaseException):
                    raise answer
                receive(answer)
                left -= len(answer.members)
        finally:
            answer = None  # whose traceback, of an error, refers to this frame
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


class Lane(threading.Thread):
    """The thread that puts packs through one device. No other does, so that torch keeps one pool of threads.

    It knows nothing of the encoder, whose end is its own.
    """

    def __init__(self, runner: Runner, waiting: Waiting, budget: TokenBudget) -> None:
        super().__init__(name="m3-lane", daemon=True)
        self._runner, self._waiting, self._budget = runner, waiting, budget
        self._served = 0
        self._after_queries = self._full = False

    def run(self) -> None:
        """Takes packs until there are no more."""
        try:
            while self._step():
                pass
        finally:
            self._waiting.close()  # also where an error of our own ends it: nobody may wait for ever

    def _step(self) -> bool:
        # a query interrupts documents, or waits for a few of them, so they can take turns with queries and never starve
        brief = not self._runner.interruptible
        texts = self._waiting.take(served=self._served, documents_turn=self._after_queries, briefly=brief)
        if not texts:
            return False
        self._served = len({text.job for text in texts})
        self._after_queries = texts[0].job.queries
        self._full = False
        self._put_through(texts, self._check_open if self._after_queries else self._let_queries_by)
        return True

    def _let_queries_by(self) -> None:
        self._check_open()
        if not self._full and (texts := self._waiting.take_queries()):
            self._put_through(texts, self._check_open, nested=True)

    def _check_open(self) -> None:
        if self._waiting.closed:
            raise EncoderClosed(CLOSED)

    def _put_through(self, texts: list[Text], between: Callable[[], object], *, nested: bool = False) -> None:
        """Runs texts of jobs that are not dropped, and hands out results and errors. Raises nothing.

        Args:
            texts: of any jobs.
            between: what to do before each layer.
            nested: whether another pack is half done meanwhile.
        """
        texts = sorted((t for t in texts if not t.job.dropped), key=lambda t: (t.job.wants, -len(t.token_ids)))
        if not texts:
            return
        try:
            grouped = [list(group) for _, group in groupby(texts, lambda t: t.job.wants)]
            pack = Pack.of([text.token_ids for text in texts])
            outputs = self._runner.run(pack, [Group(g[0].job.wants, len(g)) for g in grouped], between)
            for group, output in zip(grouped, outputs, strict=True):
                _deliver(group, output)
            return
        except OutOfMemory as error:
            _forget_frames(error)
            if nested:  # they have the device for themselves afterwards
                self._full = True
                self._waiting.put_back(texts)
                return
            parts = self._smaller(texts, error)
        except BaseException as error:
            _forget_frames(error)
            parts = self._apart(texts, error)
        for part in parts:  # behind the except, as what memory the error held is free now
            self._put_through(part, between, nested=nested)

    def _smaller(self, texts: list[Text], error: OutOfMemory) -> list[list[Text]]:
        """Halves the budget, and makes packs of it."""
        if len(texts) == 1:
            named = OutOfMemory(
                f"a text of {len(texts[0].token_ids)} tokens does not fit into memory on its own ({error}). "
                "Lower max_length, ask for fewer modes, use dtype='bfloat16' or a device with more memory"
            )
            named.__cause__ = error
            self._waiting.fail(texts[0].job, named)
            return []
        half = max(1, sum(len(text.token_ids) for text in texts) // 2)
        self._budget.tokens = min(self._budget.tokens, max(half, _LEAST_BUDGET))
        parts: list[list[Text]] = []
        room = 0
        for text in texts:
            room -= len(text.token_ids)
            if room < 0:
                parts.append([])
                room = half - len(text.token_ids)
            parts[-1].append(text)
        return parts

    def _apart(self, texts: list[Text], error: BaseException) -> list[list[Text]]:
        """Each job's texts, so that only those jobs fail that fail by themselves."""
        jobs: dict[Job, list[Text]] = {}
        for text in texts:
            jobs.setdefault(text.job, []).append(text)
        if len(jobs) > 1 and not isinstance(error, EncoderClosed):
            return list(jobs.values())
        for job in jobs:
            self._waiting.fail(job, error if len(jobs) == 1 else EncoderClosed(*error.args))
        return []


def _deliver(texts: list[Text], output: PackOutput) -> None:
    """Gives each job its rows of what was made of a group."""
    rows: dict[Job, list[int]] = {}
    for row, text in enumerate(texts):
        rows.setdefault(text.job, []).append(row)
    for job, own in rows.items():
        job.inbox.put(Share([texts[row].member for row in own], own, output))


def _forget_frames(error: BaseException | None) -> None:
    """Lets go of what the functions held that an error went through, such as activations."""
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
