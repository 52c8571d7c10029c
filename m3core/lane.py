"""`Lane`: the thread that puts packs of texts through one device, and hands out what is made of them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from traceback import clear_frames
from typing import Protocol, TypeVar

from m3core.errors import EncoderClosed, OutOfMemory
from m3core.packing import Group, Pack, PackOutput, TokenBudget
from m3core.waiting import CLOSED, Job, Share, Text, Waiting

T = TypeVar("T")

_LEAST_BUDGET = 256  # tokens; what does not fit then will not fit at all


class Runner(Protocol):
    """A model on a device.

    Attributes:
        interruptible: whether it calls `between`.
        ahead: whether `run` only starts a pack, so that the next one can be started before this one is done.
    """

    @property
    def interruptible(self) -> bool:
        """See above."""

    @property
    def ahead(self) -> bool:
        """See above."""

    def run(self, pack: Pack, groups: Sequence[Group], between: Callable[[], object]) -> Callable[[], list[PackOutput]]:
        """Puts a pack through the model; in one thread only.

        Args:
            pack: the texts.
            groups: what is wanted of them, in their order.
            between: is called before each layer, and may run another pack, or raise an error to end this one.

        Returns:
            What waits for that which was made of each group, and gives it. It may raise what `run` may.

        Raises:
            OutOfMemory: the pack is too large.
        """
        ...

    def close(self) -> None:
        """Ends it, also from another thread, while it runs a pack."""
        ...


@dataclass(frozen=True, eq=False)
class _Flight:
    """A pack that was started.

    Attributes:
        groups: its texts, by what is wanted of them.
        results: waits for what is made of each group.
        between: what to do before each layer.
        nested: whether another pack is half done meanwhile.
    """

    groups: list[list[Text]]
    results: Callable[[], list[PackOutput]]
    between: Callable[[], object]
    nested: bool


class Lane(threading.Thread):
    """The thread that puts packs through one device. No other does, so that torch keeps one pool of threads.

    It knows nothing of the encoder, whose end is its own. Where the device goes ahead, it starts a pack before it waits
    for the one before it, so that the device always has something to do.
    """

    def __init__(self, runner: Runner, waiting: Waiting, budget: TokenBudget) -> None:
        super().__init__(name="m3-lane", daemon=True)
        self._runner, self._waiting, self._budget = runner, waiting, budget
        self._flight: _Flight | None = None
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
        before, self._flight = self._flight, None
        started = None
        try:
            texts = self._take(ahead=before is not None)
            if texts:
                self._after_queries = texts[0].job.queries
                self._full = False
                started = self._start(texts, self._check_open if self._after_queries else self._let_queries_by)
        finally:
            if before is not None:
                self._land(before)
        if started is not None and self._runner.ahead:
            self._flight = started
        elif started is not None:
            self._land(started)
        return bool(texts) or before is not None

    def _take(self, *, ahead: bool) -> list[Text]:
        # a query interrupts documents, or waits for a few of them, so they can take turns with queries and never starve
        brief, turn = not self._runner.interruptible, self._after_queries
        served, self._served = self._served, 0
        return self._waiting.take(served=served, documents_turn=turn, briefly=brief, ahead=ahead)

    def _let_queries_by(self) -> None:
        self._check_open()
        if not self._full and (texts := self._waiting.take_queries()):
            self._put_through(texts, self._check_open, nested=True)

    def _check_open(self) -> None:
        if self._waiting.closed:
            raise EncoderClosed(CLOSED)

    def _put_through(self, texts: list[Text], between: Callable[[], object], *, nested: bool) -> None:
        flight = self._start(texts, between, nested=nested)
        if flight is not None:
            self._land(flight)

    def _start(self, texts: list[Text], between: Callable[[], object], *, nested: bool = False) -> _Flight | None:
        """Starts a pack of those texts whose jobs are not dropped. Raises nothing.

        Args:
            texts: of any jobs.
            between: what to do before each layer.
            nested: whether another pack is half done meanwhile.

        Returns:
            `None` if there is nothing to wait for: no texts, or it failed, and what it gave has been handed out.
        """
        texts = sorted((t for t in texts if not t.job.dropped), key=lambda t: (t.job.wants, -len(t.token_ids)))
        if not texts:
            return None
        groups = [list(group) for _, group in groupby(texts, lambda t: t.job.wants)]

        def start() -> _Flight:
            pack = Pack.of([text.token_ids for text in texts])
            results = self._runner.run(pack, [Group(g[0].job.wants, len(g)) for g in groups], between)
            return _Flight(groups, results, between, nested)

        return self._tried(start, texts, between, nested=nested)

    def _land(self, flight: _Flight) -> None:
        """Waits for the results of a pack, and hands them out. Raises nothing."""
        texts = [text for group in flight.groups for text in group]
        if not flight.nested:
            self._served = len({text.job.inbox for text in texts})

        def land() -> None:
            for group, output in zip(flight.groups, flight.results(), strict=True):
                _deliver(group, output)

        self._tried(land, texts, flight.between, nested=flight.nested)

    def _tried(
        self, attempt: Callable[[], T], texts: list[Text], between: Callable[[], object], *, nested: bool
    ) -> T | None:
        """What an attempt gives. If it fails, its texts go through in parts, or their jobs fail."""
        try:
            return attempt()
        except OutOfMemory as error:
            _forget_frames(error)
            if nested:  # they have the device for themselves afterwards
                self._full = True
                self._waiting.put_back(texts)
                return None
            parts = self._smaller(texts, error)
        except BaseException as error:
            _forget_frames(error)
            parts = self._apart(texts, error)
        for part in parts:  # behind the except, as what memory the error held is free now
            self._put_through(part, between, nested=nested)
        return None

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
