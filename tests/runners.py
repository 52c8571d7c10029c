"""Stands for a model: runners that a test steps through, and gates in front of real forward passes."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

import numpy as np
import pytest

from m3core.lane import Lane
from m3core.packing import Group, Pack, PackOutput, TokenBudget
from m3core.passes import ForwardPass
from m3core.waiting import Inbox, Job, Share, Waiting

PATIENCE = 20  # seconds after which a test that hangs fails


class Stepped:
    """A runner of two layers, which goes on when the test says so. A text is a number, repeated.

    Attributes:
        ahead: whether the layers pass when somebody waits for the results, and not before.
        begun: the numbers of the texts in each pack, as it begins.
        wants: what each of the packs' groups wants.
    """

    def __init__(self, *, interruptible: bool = True, ahead: bool = False, free: bool = False) -> None:
        self.interruptible, self.ahead = interruptible, ahead
        self.begun: SimpleQueue[list[int]] = SimpleQueue()
        self.wants: list[list[tuple[str, ...]]] = []
        self.broken: set[int] = set()
        self._steps = threading.Semaphore(1000 if free else 0)

    def step(self, layers: int = 2) -> None:
        """Lets some layers pass."""
        self._steps.release(layers)

    def run(self, pack: Pack, groups: Sequence[Group], between: Callable[[], object]) -> Callable[[], list[PackOutput]]:
        numbers = pack.token_ids[pack.starts]
        self.begun.put(numbers.tolist())
        self.wants.append([group.wants for group in groups])

        def results() -> list[PackOutput]:
            for _ in range(2):
                if self.interruptible:
                    between()
                assert self._steps.acquire(timeout=PATIENCE)
            if self.broken & set(numbers.tolist()):
                raise ValueError(f"broken: {self.broken}")
            return outputs_of(numbers, groups)

        if self.ahead:
            return results
        made = results()
        return lambda: made

    def close(self) -> None: ...


def outputs_of(numbers: np.ndarray, groups: Sequence[Group]) -> list[PackOutput]:
    """Each text's number in place of a dense vector."""
    ends = np.cumsum([group.texts for group in groups])
    return [
        PackOutput(numbers[end - group.texts : end, None].astype(np.float32), None, None, None)
        for group, end in zip(groups, ends, strict=True)
    ]


@contextmanager
def lane(runner: Stepped, budget: int = 100, lanes: int = 1) -> Iterator[Waiting]:
    """A lane for the runner, or several; what is added to the line that it gives goes through the runner."""
    tokens = TokenBudget(budget)
    waiting = Waiting(tokens)
    threads = [Lane(runner, waiting, tokens) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    yield waiting
    waiting.close()
    runner.step(1000)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def job(*numbers: int, length: int = 1, queries: bool = False, wants: tuple[str, ...] = ("dense",)) -> Job:
    """A job of texts of one length."""
    return Job([np.full(length, n) for n in numbers], wants, queries=queries, inbox=Inbox())


def results(done: Job) -> list[int]:
    """What was made of each of a job's texts, in their order."""
    made: dict[int, int] = {}
    while len(made) < done.size:
        answer = done.inbox.get(timeout=PATIENCE)
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Share)
        made.update(zip(answer.members, answer.output.dense[answer.rows, 0].tolist(), strict=True))
    return [int(made[i]) for i in range(done.size)]


class Gate:
    """In front of every forward pass of any encoder.

    Attributes:
        packs: how many texts each pass has, as it arrives.
    """

    def __init__(self) -> None:
        self.packs: SimpleQueue[int] = SimpleQueue()
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def arrived(self) -> int:
        """Waits for the next pass to arrive: how many texts it has."""
        return self.packs.get(timeout=PATIENCE)

    def pass_through(self, texts: int) -> None:
        self.packs.put(texts)
        assert self._open.wait(PATIENCE)


@contextmanager
def gate() -> Iterator[Gate]:
    """Forward passes of any encoder wait meanwhile until the test opens the gate."""
    made = Gate()
    run = ForwardPass.run

    def gated(self: ForwardPass, pack: Pack, groups: Sequence[Group], between: Callable[[], object]) -> object:
        made.pass_through(len(pack.lengths))
        return run(self, pack, groups, between)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ForwardPass, "run", gated)
        try:
            yield made
        finally:
            made.open()
