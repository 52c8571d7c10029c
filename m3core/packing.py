"""Token-budget packing: texts of any length side by side in one row of tokens, without padding."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from m3core.errors import OutOfMemory

Result = TypeVar("Result")
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pack:
    """Some texts' tokens in one row.

    Attributes:
        members: `(n,)` which texts they are.
        token_ids: `(t,)` the token ids of all of them, one text after the other.
        lengths: `(n,)` the number of tokens of each.
    """

    members: IntArray
    token_ids: IntArray
    lengths: IntArray

    @cached_property
    def starts(self) -> IntArray:
        """`(n,)` where each text begins."""
        return np.cumsum(self.lengths) - self.lengths


@dataclass
class TokenBudget:
    """How many tokens go through the model at once. Halves when memory runs out, and stays so."""

    tokens: int


def run_packs(
    texts: Sequence[IntArray], budget: TokenBudget, forward: Callable[[Pack], Result]
) -> Iterator[tuple[Pack, Result]]:
    """Runs `forward` over all texts in packs. Out of memory halves the budget and goes on.

    The longest texts go first, so that a lack of memory shows at the start, and texts of one length lie together.

    Args:
        texts: the token ids of each text.
        budget: the most tokens in a pack of more than one text; lowered in place.
        forward: what to do with a pack; raises `OutOfMemory` when it does not fit.

    Yields:
        Each pack with its result, every text in exactly one pack.

    Raises:
        OutOfMemory: a single text does not fit; the message gives its length.
    """
    lengths = np.array([len(t) for t in texts], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    first = 0
    while first < len(order):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + budget.tokens, side="right")))
        members = order[first:last]
        pack = Pack(members, np.concatenate([texts[i] for i in members]), lengths[members])
        try:
            result = forward(pack)
        except OutOfMemory as error:
            if len(members) == 1:
                raise OutOfMemory(
                    f"a text of {lengths[members[0]]} tokens does not fit into memory on its own ({error}). "
                    "Lower max_length, ask for fewer modes, use dtype='bfloat16' or a device with more memory"
                ) from error
            budget.tokens = max(1, len(pack.token_ids) // 2)
            continue
        yield pack, result
        first = last
