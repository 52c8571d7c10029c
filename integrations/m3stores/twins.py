"""The async twins of a store's operations: by an async client where there is one, and in a thread elsewhere."""

import asyncio
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from m3core import M3Output, Mode, Record, SparseVector
from m3core.output import FloatArray
from m3stores.collection import Comparison, Hit, Page
from m3stores.engine import gently
from m3stores.growing import Encode
from m3stores.keys import Keys
from m3stores.operations import Operations


class AsyncTwins(ABC):
    """The half of `HybridStore` for event loops. Each method takes what the one without the `a` takes."""

    def __init__(self, make_operations: Callable[[], Operations] | None) -> None:
        """For `HybridStore`.

        Args:
            make_operations: for an event loop, over an async engine; `None` where there is none.
        """
        self._make_operations = make_operations
        self._closed = False
        self._of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Operations] = weakref.WeakKeyDictionary()

    @abstractmethod
    def add_modes(self, modes: Sequence[Mode], encode: Encode, *, show_progress: bool = False) -> None:
        """See `HybridStore`."""

    @abstractmethod
    def close(self) -> None:
        """See `HybridStore`."""

    async def aupsert(self, records: Sequence[Record], output: M3Output) -> list[str]:
        """`upsert`, async."""
        written: list[str] = await self._async("upsert", records, output)
        return written

    async def acompare(self, records: Sequence[Record]) -> Comparison:
        """`compare`, async."""
        comparison: Comparison = await self._async("compare", records)
        return comparison

    async def akeys(self) -> Keys:
        """`keys`, async."""
        keys: Keys = await self._async("keys")
        return keys

    async def adelete(self, ids: Sequence[str] | None = None, *, filter: object = None) -> None:
        """`delete`, async."""
        await self._async("delete", ids, filter=filter)

    async def aget(self, ids: Sequence[str]) -> list[Record]:
        """`get`, async."""
        records: list[Record] = await self._async("get", ids)
        return records

    async def avectors(self, ids: Sequence[str], mode: Mode) -> dict[str, FloatArray | SparseVector]:
        """`vectors`, async."""
        vectors: dict[str, FloatArray | SparseVector] = await self._async("vectors", ids, mode)
        return vectors

    async def acount(self, filter: object = None) -> int:
        """`count`, async."""
        count: int = await self._async("count", filter)
        return count

    async def apage(self, **options: Any) -> Page:
        """`page`, async."""
        page: Page = await self._async("page", **options)
        return page

    async def ascroll(self, **options: Any) -> AsyncIterator[Page]:
        """`scroll`, async."""
        start: str | None = None
        while True:
            page = await self.apage(start=start, **options)
            if page.records:
                yield page
            if page.next is None:
                return
            start = page.next

    async def asearch(self, queries: M3Output, **options: Any) -> list[list[Hit]]:
        """`search`, async."""
        hits: list[list[Hit]] = await self._async("search", queries, **options)
        return hits

    async def aadd_modes(self, modes: Sequence[Mode], encode: Encode, *, show_progress: bool = False) -> None:
        """`add_modes` in a thread."""
        await asyncio.to_thread(gently, partial(self.add_modes, modes, encode, show_progress=show_progress))

    async def aclear(self) -> None:
        """`clear`, async."""
        await self._async("clear")

    async def adrop(self) -> None:
        """`drop`, async."""
        await self._async("drop")

    async def aclose(self) -> None:
        """`close`, async."""
        operations = self._of_loops.pop(asyncio.get_running_loop(), None)
        if operations is not None:
            await operations.engine.close()
        await asyncio.to_thread(self.close)

    async def __aenter__(self) -> Self:
        """Nothing to do: a store is open from the start."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the store."""
        await self.aclose()

    async def _async(self, operation: str, *arguments: Any, **options: Any) -> Any:
        if self._make_operations is None or self._closed:  # a closed engine says so
            return await asyncio.to_thread(gently, partial(getattr(self, operation), *arguments, **options))
        loop = asyncio.get_running_loop()
        for other in [other for other in self._of_loops if other.is_closed()]:
            del self._of_loops[other]
        if loop not in self._of_loops:  # clients belong to the event loop that they were made in
            self._of_loops[loop] = self._make_operations()
        return await getattr(self._of_loops[loop], operation)(*arguments, **options)
