"""Searches of the embedded engine in slices: while it works, no other thread of this process does.

Every point carries a number, of which there are `PARTS`, and that is indexed. A filter of some of these numbers reads
so many records and no more, so that a filter on fields without an index, which must read all of them, can be cut. That
takes about twice as long, and so is done only where an event loop waits.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from m3core import InvalidInput, Mode

PART = "part"
PARTS = 256
_RECORDS = 500  # in a slice: about 1 ms


def part_of(point_id: str) -> int:
    """The number of a point, which its id tells: a UUID made of a hash."""
    return int(point_id[:2], 16)


@dataclass(frozen=True)
class Condition:
    """A filter in the engine's terms.

    Attributes:
        filter: of `qdrant_edge`.
        quick: whether an index finds what it matches, so that there is nothing to cut.
    """

    filter: Any
    quick: bool


@dataclass(frozen=True)
class Place:
    """Where a listing in slices goes on.

    Attributes:
        first: the slice's first number.
        width: how many numbers the slices have.
        offset: the id of the next point in the slice; `None` is its beginning.
    """

    first: int
    width: int
    offset: str | None = None

    @classmethod
    def start(cls, records: int) -> Self:
        """The beginning of a listing of so many records."""
        return cls(0, max(1, PARTS * _RECORDS // max(records, 1)))

    @staticmethod
    def is_one(text: object) -> bool:
        """Whether it is a place, and not a point's id."""
        return isinstance(text, str) and ":" in text

    @classmethod
    def read(cls, text: str) -> Self:
        """What `str` wrote.

        Raises:
            InvalidInput: something else.
        """
        try:
            first, width, offset = text.split(":")
            return cls(int(first), int(width), offset or None)
        except ValueError:
            raise InvalidInput(f"start must be `next` of a page with the same filter, not {text!r}") from None

    def __str__(self) -> str:
        return f"{self.first}:{self.width}:{self.offset or ''}"

    def following(self, offset: str | None) -> "Place | None":
        """The place after a part of the slice, of which `offset` is the next point; `None` at the very end."""
        if offset is not None:
            return Place(self.first, self.width, offset)
        after = self.first + self.width
        return Place(after, self.width) if after < PARTS else None

    def slices(self) -> "Iterator[Place]":
        """This slice and those after it, from their beginnings."""
        return (Place(first, self.width) for first in range(self.first, PARTS, self.width))


def merged(
    found: list[dict[Mode, dict[str, float]]], more: list[dict[Mode, dict[str, float]]], limit: int
) -> list[dict[Mode, dict[str, float]]]:
    """The best of two slices, for each query and mode."""
    return [
        {
            mode: dict(heapq.nlargest(limit, (scores | others[mode]).items(), key=lambda item: item[1]))
            for mode, scores in by_mode.items()
        }
        for by_mode, others in zip(found, more, strict=True)
    ]
