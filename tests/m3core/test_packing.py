import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3core.errors import OutOfMemory
from m3core.packing import Pack, TokenBudget, run_packs


def texts_of(lengths: list[int]) -> list[np.ndarray]:
    return [np.full(length, i) for i, length in enumerate(lengths)]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_every_text_is_in_exactly_one_pack_with_its_own_tokens(lengths: list[int], budget: int) -> None:
    seen = []
    for pack, _ in run_packs(texts_of(lengths), TokenBudget(budget), lambda pack: None):
        assert len(pack.token_ids) <= budget or len(pack.members) == 1
        for member, start, length in zip(pack.members, pack.starts, pack.lengths, strict=True):
            assert length == lengths[member]
            assert (pack.token_ids[start : start + length] == member).all()
            seen.append(int(member))
    assert sorted(seen) == list(range(len(lengths)))


def test_longest_texts_go_first() -> None:
    packs = [pack for pack, _ in run_packs(texts_of([3, 9, 1, 9]), TokenBudget(18), lambda pack: None)]
    assert [pack.lengths.tolist() for pack in packs] == [[9, 9], [3, 1]]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(50, 300), st.integers(50, 120))
def test_out_of_memory_halves_the_budget_and_nothing_is_lost(lengths: list[int], budget: int, room: int) -> None:
    def forward(pack: Pack) -> None:
        if len(pack.token_ids) > room:
            raise OutOfMemory("no room")

    limit = TokenBudget(budget)
    done = [int(m) for pack, _ in run_packs(texts_of(lengths), limit, forward) for m in pack.members]
    assert sorted(done) == list(range(len(lengths)))
    assert limit.tokens >= room // 2 or limit.tokens == budget


def test_a_single_text_without_room_is_named_by_its_length() -> None:
    def forward(pack: Pack) -> None:
        if 700 in pack.lengths:
            raise OutOfMemory("no room")

    with pytest.raises(OutOfMemory, match=r"a text of 700 tokens does not fit.*Lower max_length"):
        list(run_packs(texts_of([5, 700, 6]), TokenBudget(1000), forward))
