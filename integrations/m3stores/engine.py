"""The `Engine` under a store: what keeps the points of one collection. And one body for blocking and async code.

An engine's methods are coroutines. A blocking engine's never wait for anything but return at once, so that `finished`
can run them without an event loop; an async engine's wait for its client. What a store does is written once, over both.
"""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from m3core import M3Output, Mode, Record
from m3stores.collection import Page, Schema
from m3stores.filters import Expression

T = TypeVar("T")

_PAUSE = 0.0002  # seconds

GENTLY = ContextVar("GENTLY", default=False)
"""Whether an event loop goes on meanwhile, so that an engine that holds up every thread should work in short turns."""


class Engine(Protocol):
    """Keeps the points of one collection. Speaks of records by their own ids, and returns the paper's scores.

    A store validates before it calls: an engine may trust what it is given.
    """

    @property
    def address(self) -> str | None:
        """Where the collection is, as `m3 index --store` takes it; `None` if it is a temporary one."""

    async def schema(self, *, fresh: bool = False) -> Schema | None:
        """What the collection holds; `None` while it does not exist. `fresh` asks the server."""

    async def create(self, schema: Schema) -> Schema:
        """Makes the collection if it does not exist, whole or not at all. Returns the schema that it has."""

    async def extend(self, schema: Schema) -> None:
        """Makes room for the modes of `schema` that the collection lacks. Does not change what `schema()` says."""

    async def become(self, schema: Schema) -> None:
        """Writes down that the collection holds this now."""

    def check(self, records: Sequence[Record]) -> None:
        """Refuses records that this engine cannot keep.

        Raises:
            InvalidInput: names the record.
        """

    async def write(self, records: Sequence[Record], output: M3Output, hashes: Sequence[str]) -> None:
        """Stores the records, in place of any with the same ids. They are there for good when it returns."""

    async def fill(self, ids: Sequence[str], output: M3Output, hashes: Mapping[str, str]) -> None:
        """Adds representations to records that are there still with these hashes, and leaves all else as it is."""

    async def lacking(self, ids: Sequence[str], modes: Sequence[Mode]) -> set[str]:
        """Those of these records that do not have all of the modes, which there is room for."""

    async def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """The hashes that the records of these ids were written with, as far as they are there."""

    def contents(self) -> AsyncIterator[dict[str, str]]:
        """The `hashes` of all records, in portions."""

    async def delete(self, ids: Sequence[str]) -> None:
        """Removes records; ids that are not there do not matter."""

    async def delete_matching(self, filter: Any) -> None:
        """Removes the records that a filter of `translate` matches."""

    async def read(self, ids: Sequence[str]) -> dict[str, Record]:
        """The records of these ids that are there."""

    async def page(self, filter: Any, start: str | None, size: int, modes: Sequence[Mode]) -> Page:
        """The next records that a filter matches, with their representations by `modes`, if any."""

    async def vectors(self, ids: Sequence[str], mode: Mode) -> dict[str, Any]:
        """The representations by one mode of these records, as far as they are there. The ids are distinct."""

    async def count(self, filter: Any) -> int:
        """How many records there are, of those that a filter of `translate` matches if it is not `None`."""

    def translate(self, filter: Expression) -> Any:
        """The filter in the engine's own terms.

        Raises:
            InvalidInput: it has no such condition.
        """

    def is_native(self, filter: object) -> bool:
        """Whether this is a filter in the engine's own terms."""

    def within(self, filter: Any, ids: Sequence[str]) -> Any:
        """The filter of the records of these ids, of those that a filter of `translate` matches if it is not `None`."""

    async def candidates(
        self, queries: M3Output, modes: Sequence[Mode], limit: int, filter: Any
    ) -> list[dict[Mode, dict[str, float]]]:
        """For each query and mode the best `limit` records, as `{id: score}`."""

    async def scores(
        self, queries: M3Output, wanted: Sequence[tuple[int, Mode, Sequence[str]]]
    ) -> list[dict[str, float]]:
        """For each (row of `queries`, mode, ids) the scores of these records; one without a score is left out."""

    async def clear(self) -> None:
        """Removes all records; what the collection holds stays the same."""

    async def drop(self) -> None:
        """Removes the collection."""

    async def close(self) -> None:
        """Releases everything. May be called twice."""


def gently(work: Callable[[], T]) -> T:
    """What some work returns, done in short turns as far as its engine can; for a thread beside an event loop."""
    GENTLY.set(True)  # in the context of this thread
    return work()


def give_way() -> None:
    """Lets the event loop go on, if one does meanwhile; to be called at the end of each short turn.

    It is a pause in which a thread that waits for the interpreter can wake up and take it. `sleep(0)` is over too soon:
    this thread would have the interpreter again before the other one is awake.
    """
    if GENTLY.get():
        time.sleep(_PAUSE)


def finished(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine over a blocking engine returns; it runs here and now, without an event loop."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    raise RuntimeError("a blocking engine waited for an event loop")
