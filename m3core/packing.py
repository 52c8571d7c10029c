"""Packs: texts of any length side by side in one row of tokens, without padding; what goes into them and comes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from m3core.output import FloatArray, Mode, SparseVector

Number = TypeVar("Number", bound=np.generic)
IntArray = npt.NDArray[np.int64]
Want = Mode | Literal["weights"]
"""What can be made of a text: its representations, or the lexical weight of each of its tokens."""


def cut(rows: npt.NDArray[Number], lengths: npt.ArrayLike) -> list[npt.NDArray[Number]]:
    """An array's rows in parts of these lengths, one after the other; views."""
    ends = np.cumsum(lengths).tolist()
    return [rows[start:end] for start, end in pairwise([0, *ends])]


@dataclass(frozen=True, eq=False)
class Pack:
    """Some texts' tokens in one row.

    Attributes:
        token_ids: `(t,)` the token ids of all of them, one text after the other.
        lengths: `(n,)` the number of tokens of each.
    """

    token_ids: IntArray
    lengths: IntArray

    @classmethod
    def of(cls, texts: Sequence[IntArray]) -> "Pack":
        """The pack of texts, given by their token ids."""
        return cls(np.concatenate(texts), np.array([len(text) for text in texts], dtype=np.int64))

    def split(self, texts: Sequence[int]) -> list["Pack"]:
        """Parts of so many neighbours each, all together."""
        lengths = cut(self.lengths, texts)
        token_ids = cut(self.token_ids, [part.sum() for part in lengths])
        return [Pack(*part) for part in zip(token_ids, lengths, strict=True)]

    @cached_property
    def starts(self) -> IntArray:
        """`(n,)` where each text begins."""
        return np.cumsum(self.lengths) - self.lengths

    def positions(self, padding_id: int | None) -> IntArray:
        """The position of each token in its text, `(t,)`.

        BERT counts from 0. XLM-R and RoBERTa count from the padding id + 1, and pass over padding tokens, which a text
        can hold if it spells them out.

        Args:
            padding_id: the padding token's id, or `None` for BERT.
        """
        if padding_id is None:
            return np.arange(len(self.token_ids)) - np.repeat(self.starts, self.lengths)
        counts = self.token_ids != padding_id
        running = np.cumsum(counts)
        before = running[self.starts] - counts[self.starts]
        return np.where(counts, running - np.repeat(before, self.lengths), 0) + padding_id


@dataclass(frozen=True, eq=False)
class Group:
    """Neighbours in a pack of which the same is wanted.

    Attributes:
        wants: what to make of them.
        texts: how many they are.
    """

    wants: tuple[Want, ...]
    texts: int


@dataclass(frozen=True, eq=False)
class PackOutput:
    """What was made of a group of texts, in their order; what was not asked for is `None`.

    A weight there is for each token but CLS.
    Copy what you keep: arrays can be views of what was made of the whole pack, and multi-vectors in half precision.
    """

    dense: FloatArray | None
    sparse: list[SparseVector] | None
    multivector: list[FloatArray] | None
    weights: list[FloatArray] | None


@dataclass
class TokenBudget:
    """How many tokens go through the model at once. Halves when memory runs out, and stays so."""

    tokens: int
