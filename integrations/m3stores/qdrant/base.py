"""What the embedded engine and the one of servers have in common: points, pages and scores."""

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from m3core import M3Output, Mode, Record, StoreError
from m3core.portions import by_portions
from m3stores.collection import Page, Schema
from m3stores.qdrant.layout import HASH, Layout
from m3stores.qdrant.vectors import gathered, has_content, representation, row_numbers, tokens

_POINTS, WRITE_BYTES = 256, 8 << 20  # the most in one write
_IDS, _ID_BYTES = 1000, 40  # the most in one request, and what each takes
_MULTIVECTORS = 64  # the most in one answer
_ATTEMPTS = 5


class PointsMissing(StoreError):
    """Vectors were to be given to points that are not there."""


class Models(Protocol):
    """Makes what an engine is given, in its client's classes."""

    def point(self, record: Record, output: M3Output, row: int, content: str) -> Any:
        """A record's point, with the hash of its content."""

    def new_values(self, record_id: str, output: M3Output, row: int) -> Any:
        """Vectors for a point that is there."""

    def query(self, queries: M3Output, row: int, mode: Mode, limit: int, filter: Any, exact: bool) -> Any:
        """A search by one mode."""

    def of_content(self, hashes: Sequence[str]) -> Any:
        """The filter of points with these hashes."""

    def among(self, ids: Sequence[Any], filter: Any = None, without: Sequence[str] = ()) -> Any:
        """The filter of some points.

        Args:
            ids: theirs.
            filter: of those that this one matches too.
            without: of those that lack one of these vectors.
        """

    def filter_bytes(self, filter: Any) -> int:
        """What a filter takes in a request."""


class QdrantEngine(ABC):
    """The part of `m3stores.engine.Engine` that does not depend on where the points are.

    Both sorts of clients have points with `id`, `payload`, `vector` and `score`.
    """

    def __init__(self, models: Models, layout: Layout, number_bytes: int) -> None:
        """For subclasses.

        Args:
            models: in the client's classes.
            layout: of the collection.
            number_bytes: what a number of a vector takes in a write.
        """
        self._models = models
        self._layout = layout
        self._number_bytes = number_bytes

    @abstractmethod
    async def schema(self, *, fresh: bool = False) -> Schema | None:
        """What the collection holds."""

    @abstractmethod
    async def _upsert(self, points: list[Any], size: int) -> None: ...

    @abstractmethod
    async def _update_vectors(self, points: list[Any], condition: Any) -> None: ...

    def _turn(self) -> AbstractContextManager[Any]:
        """Within it nobody else writes, where that can be had."""
        return nullcontext()

    def _at_a_time(self, most: int) -> int:
        """How many points to read in one request, if an answer may have so many."""
        return most

    @abstractmethod
    async def _retrieve(self, ids: list[Any], payload: Any, vectors: Any) -> list[Any]: ...

    @abstractmethod
    async def _scroll(
        self, filter: Any, offset: Any, limit: int, payload: Any, vectors: Any
    ) -> tuple[list[Any], Any]: ...

    @abstractmethod
    async def _query(self, requests: list[Any]) -> list[list[Any]]: ...

    async def write(self, records: Sequence[Record], output: M3Output, hashes: Sequence[str]) -> None:
        """Upserts in portions."""
        numbers = [row_numbers(output, row) for row in range(len(records))]
        sizes = [self._number_bytes * n + payload_bytes(r) for n, r in zip(numbers, records, strict=True)]
        for rows in by_portions(sizes, _POINTS, WRITE_BYTES):
            points = [self._models.point(records[row], output, row, hashes[row]) for row in rows]
            await self._upsert(points, sum(sizes[row] for row in rows))

    async def fill(self, ids: Sequence[str], output: M3Output, hashes: Mapping[str, str]) -> None:
        """Updates vectors in portions, of the points that are there with the same content."""
        sizes = [self._number_bytes * row_numbers(output, row) for row in range(len(output))]
        for rows in by_portions(sizes, _POINTS, WRITE_BYTES):
            for attempt in range(_ATTEMPTS):
                try:
                    with self._turn():
                        await self._fill(rows, ids, output, hashes)
                    break
                except PointsMissing:  # deleted since they were looked up
                    if attempt == _ATTEMPTS - 1:
                        raise

    async def _fill(self, rows: list[int], ids: Sequence[str], output: M3Output, hashes: Mapping[str, str]) -> None:
        now = await self.hashes([ids[row] for row in rows])
        same = [row for row in rows if now.get(ids[row]) == hashes[ids[row]]]
        contents = [hashes[ids[row]] for row in same]
        condition = self._models.of_content(contents) if all(contents) else None  # other programs note none
        if same:
            points = [self._models.new_values(ids[row], output, row) for row in same]
            await self._update_vectors(points, condition)

    async def lacking(self, ids: Sequence[str], modes: Sequence[Mode]) -> set[str]:
        """Scrolls over those of the points that have no such vector."""
        lacking = self._models.among(self._ids(ids), without=[self._layout.vector(mode) for mode in modes])
        points, _ = await self._scroll(lacking, None, max(len(ids), 1), self._id_payload, False)
        return {self._id(point) for point in points}

    async def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Retrieves a part of the payloads."""
        return {self._id(p): _hash(p) async for p in self._points(ids, self._hash_payload, False)}

    async def contents(self) -> AsyncIterator[dict[str, str]]:
        """Scrolls over a part of the payloads."""
        offset: Any = None
        while True:
            points, offset = await self._scroll(None, offset, _IDS, self._hash_payload, False)
            yield {self._id(point): _hash(point) for point in points}
            if offset is None:
                return

    async def read(self, ids: Sequence[str]) -> dict[str, Record]:
        """Retrieves payloads."""
        records = [self._record(point) async for point in self._points(ids, True, False)]
        return {record.id: record for record in records}

    async def page(self, filter: Any, start: str | None, size: int, modes: Sequence[Mode]) -> Page:
        """Scrolls in the order of point ids."""
        names = {mode: self._layout.vector(mode) for mode in modes}
        offset = None if start is None else self._layout.offset(start)
        points, following = await self._scroll(filter, offset, size, True, _selected(names.values()))
        records = [self._record(point) for point in points]
        schema = await self.schema()
        output = None
        if modes and schema is not None:
            output = gathered(records, [_named(point.vector) for point in points], names, schema)
        return Page(records, output, None if following is None else str(following))

    async def vectors(self, ids: Sequence[str], mode: Mode) -> dict[str, Any]:
        """Retrieves vectors, and keeps of each answer only those."""
        name = self._layout.vector(mode)
        most = _MULTIVECTORS if mode == "multivector" else _IDS
        return {
            self._id(point): representation(held[name], mode)
            async for point in self._points(ids, self._id_payload, _selected([name]), most)
            if name in (held := _named(point.vector))
        }

    def within(self, filter: Any, ids: Sequence[str]) -> Any:
        """With a condition on points' ids."""
        return self._models.among(self._ids(ids), filter)

    async def candidates(
        self, queries: M3Output, modes: Sequence[Mode], limit: int, filter: Any
    ) -> list[dict[Mode, dict[str, float]]]:
        """A search for each query and mode."""
        wanted = [(row, mode, ()) for row in range(len(queries)) for mode in modes if has_content(queries, row, mode)]
        requests = [self._models.query(queries, row, mode, limit, filter, False) for row, mode, _ in wanted]
        found: list[dict[Mode, dict[str, float]]] = [{mode: {} for mode in modes} for _ in range(len(queries))]
        answers = await self._answers(queries, wanted, requests, self._models.filter_bytes(filter))
        for (row, mode, _), scored in zip(wanted, answers, strict=True):
            found[row][mode] = scored
        return found

    async def scores(
        self, queries: M3Output, wanted: Sequence[tuple[int, Mode, Sequence[str]]]
    ) -> list[dict[str, float]]:
        """Exact searches among the given ids."""
        asked = [n for n, (row, mode, _) in enumerate(wanted) if has_content(queries, row, mode)]
        requests = []
        for row, mode, ids in (wanted[n] for n in asked):
            requests.append(self._models.query(queries, row, mode, len(ids), self._models.among(self._ids(ids)), True))
        found: list[dict[str, float]] = [{} for _ in wanted]
        answers = await self._answers(queries, [wanted[n] for n in asked], requests)
        for n, scored in zip(asked, answers, strict=True):
            found[n] = scored
        return found

    async def _answers(
        self,
        queries: M3Output,
        legs: Sequence[tuple[int, Mode, Sequence[str]]],
        requests: list[Any],
        filter_bytes: int = 0,
    ) -> list[dict[str, float]]:
        """The scores by requests, one for each (row, mode, ids); asked for in portions."""
        sizes = [
            self._number_bytes * row_numbers(queries, row, [mode]) + _ID_BYTES * len(ids) + filter_bytes
            for row, mode, ids in legs
        ]
        answers: list[list[Any]] = []
        for portion in by_portions(sizes, _POINTS, WRITE_BYTES):
            answers += await self._query([requests[n] for n in portion])
        return [
            {self._id(point): point.score / tokens(queries, row, mode) for point in points}
            for (row, mode, _), points in zip(legs, answers, strict=True)
        ]

    async def _points(self, ids: Sequence[str], payload: Any, vectors: Any, most: int = _IDS) -> AsyncIterator[Any]:
        wanted, most = self._ids(ids), self._at_a_time(most)
        for start in range(0, len(wanted), most):
            for point in await self._retrieve(wanted[start : start + most], payload, vectors):
                yield point

    @property
    def _id_payload(self) -> Any:
        """What tells a point's record."""
        return False if self._layout.id is None else [self._layout.id]

    @property
    def _hash_payload(self) -> list[str]:
        return [HASH] if self._layout.id is None else [self._layout.id, HASH]

    def _id(self, point: Any) -> str:
        return self._layout.record_id(point)

    def _ids(self, ids: Sequence[str]) -> list[Any]:
        return [point_id for i in dict.fromkeys(ids) if (point_id := self._layout.point_id(i)) is not None]

    def _record(self, point: Any) -> Record:
        return self._layout.record(point)


def payload_bytes(record: Record) -> int:
    """The most that a record's text and metadata take in a write."""
    return len(json.dumps([record.text, record.metadata]))


def _hash(point: Any) -> str:
    return str((point.payload or {}).get(HASH, ""))


def _selected(names: Any) -> Any:
    """Which vectors to return; one without a name can only be had with all others."""
    names = list(names)
    return (True if "" in names else names) if names else False


def _named(vector: Any) -> dict[str, Any]:
    """A point's vectors by name: one without a name comes bare."""
    return vector if isinstance(vector, dict) else {"": vector}
