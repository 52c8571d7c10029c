"""Which texts go through the model together, and what becomes of them when memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3core.coalesce import Scheduler
from m3core.errors import OutOfMemory
from m3core.packing import Group, Pack, PackOutput, TokenBudget
from m3core.waiting import Inbox, Job


class Recorder:
    """Stands for a model: keeps the packs that fit."""

    interruptible = True

    def __init__(self, check: Callable[[Pack], object] = lambda pack: None, *, ahead: bool = False) -> None:
        self.packs: list[Pack] = []
        self.ahead = ahead
        self._check = check

    def run(self, pack: Pack, groups: Sequence[Group], between: Callable[[], object]) -> Callable[[], list[PackOutput]]:
        if not self.ahead:
            self._check(pack)
        return lambda: self._results(pack)

    def _results(self, pack: Pack) -> list[PackOutput]:
        if self.ahead:
            self._check(pack)
        self.packs.append(pack)
        firsts = pack.token_ids[pack.starts]
        return [PackOutput(firsts[:, None].astype(np.float32), None, None, None)]

    def close(self) -> None: ...


@contextmanager
def scheduler(runner: Recorder, budget: int) -> Iterator[Scheduler]:
    made = Scheduler([runner], TokenBudget(budget))
    yield made
    made.close()


def run(scheduler: Scheduler, lengths: list[int]) -> list[int]:
    """The numbers of the texts in the order in which they are done; checks that what comes is what was made of them."""
    done: list[int] = []
    texts = [np.full(length, i) for i, length in enumerate(lengths)]

    def receive(share) -> None:
        assert share.output.dense[share.rows, 0].tolist() == share.members
        done.extend(share.members)

    scheduler.run([Job(texts, ("dense",), queries=False, inbox=Inbox())], receive)
    return done


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120), st.booleans())
def test_every_text_is_in_exactly_one_pack_with_its_own_tokens(lengths: list[int], budget: int, ahead: bool) -> None:
    runner = Recorder(ahead=ahead)
    with scheduler(runner, budget) as made:
        assert sorted(run(made, lengths)) == list(range(len(lengths)))
    for pack in runner.packs:
        assert len(pack.token_ids) <= budget or len(pack.lengths) == 1
        for start, length in zip(pack.starts, pack.lengths, strict=True):
            member = pack.token_ids[start]
            assert length == lengths[member]
            assert (pack.token_ids[start : start + length] == member).all()


def test_longest_texts_go_first() -> None:
    runner = Recorder()
    with scheduler(runner, 18) as made:
        run(made, [3, 9, 1, 9])
    assert [pack.lengths.tolist() for pack in runner.packs] == [[9, 9], [3, 1]]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(50, 300), st.integers(50, 120), st.booleans())
def test_out_of_memory_halves_the_budget_and_nothing_is_lost(
    lengths: list[int], budget: int, room: int, ahead: bool
) -> None:
    """Whether it shows when a pack is started, or when somebody waits for it."""

    def check(pack: Pack) -> None:
        if len(pack.token_ids) > room:
            raise OutOfMemory("no room")

    with scheduler(Recorder(check, ahead=ahead), budget) as made:
        assert sorted(run(made, lengths)) == list(range(len(lengths)))
        assert made.budget.tokens >= room // 2 or made.budget.tokens == budget


@pytest.mark.parametrize("ahead", [False, True])
def test_a_single_text_without_room_is_named_by_its_length(ahead: bool) -> None:
    def check(pack: Pack) -> None:
        if 700 in pack.lengths:
            raise OutOfMemory("no room")

    with scheduler(Recorder(check, ahead=ahead), 1000) as made:
        with pytest.raises(OutOfMemory, match=r"a text of 700 tokens does not fit.*Lower max_length"):
            run(made, [5, 700, 6])
        assert run(made, [5, 6]) == [1, 0]
