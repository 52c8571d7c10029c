"""The embedded engine: Qdrant in this process, by qdrant-edge."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from m3core import M3Output, Mode, Record
from m3stores.collection import Schema
from m3stores.engine import GENTLY, give_way
from m3stores.filters import Expression, keys
from m3stores.qdrant.base import WRITE_BYTES, QdrantEngine
from m3stores.qdrant.edge_models import EdgeModels
from m3stores.qdrant.filters import EdgeDialect, qdrant_filter
from m3stores.qdrant.guard import GuardedShard, load_edge
from m3stores.qdrant.layout import OURS, QdrantSettings
from m3stores.qdrant.slices import PART, Condition, Place, merged

_FLUSH_BYTES = 64 << 20  # a log of more takes long to read again after a crash (20,000 records: 2 s)
_SCROLL = 1000
_TURN = 100  # records that are read in 1 ms or so
_FEW = 2000  # records that are searched by their ids


class EdgeEngine(QdrantEngine):
    """See `m3stores.engine.Engine`. Each call is a turn of its own, and short, so that other threads get theirs."""

    def __init__(self, collection: str, path: str | Path | None, settings: QdrantSettings) -> None:
        """Opens the collection, if it exists. See `GuardedShard`."""
        self._edge: Any = load_edge()
        self._guard = GuardedShard(self._edge, collection, path)
        weakref.finalize(self, self._guard.close)
        self._edge_models = EdgeModels(self._edge, settings)
        super().__init__(self._edge_models, OURS, number_bytes=4)
        self._unflushed = 0
        self._indexed: set[str] = set()
        if self._guard.schema is not None:
            with self._guard.use() as shard:
                for update in self._edge_models.field_indexes(shard.info().payload_schema):
                    shard.update(update)
            self._note_indexes()
        self.address = None if path is None else f"qdrant:{path}"

    async def schema(self, *, fresh: bool = False) -> Schema | None:
        """What the collection holds. Nobody else can change that."""
        return self._guard.schema

    async def create(self, schema: Schema) -> Schema:
        """Makes the shard, if there is none."""
        if self._guard.schema is None:
            self._guard.create(self._edge_models.config(schema), schema, self._edge_models.first_indexes())
            self._note_indexes()
        assert self._guard.schema is not None
        return self._guard.schema

    async def extend(self, schema: Schema) -> None:
        """Makes the named vectors. Those that are there already stay."""
        held = self._guard.schema
        assert held is not None
        with self._guard.use(0) as shard:
            for update in self._edge_models.new_vectors(held, schema):
                shard.update(update)

    async def become(self, schema: Schema) -> None:
        """Writes the schema down, and gives vectors that were made later their settings."""
        self._guard.become(schema, self._edge_models.config(schema))

    def check(self, records: Sequence[Record]) -> None:
        """All records will do."""

    async def delete(self, ids: Sequence[str]) -> None:
        """Deletes by id."""
        with self._guard.use() as shard:
            shard.update(self._edge.UpdateOperation.delete_points(self._ids(ids)))

    async def delete_matching(self, filter: Any) -> None:
        """Looks the points up and deletes them by id: a filter in the log might be too deep for the log's reader."""
        offset = None
        while True:
            points, offset = await self._scroll(filter, offset, _SCROLL, False, False)
            if points:
                with self._guard.use() as shard:
                    shard.update(self._edge.UpdateOperation.delete_points([point.id for point in points]))
            if offset is None:
                return

    async def count(self, filter: Any) -> int:
        """Counts exactly."""
        counted = 0
        for part in self._slices(filter):
            with self._guard.use() as shard:
                counted += shard.count(self._edge.CountRequest(filter=part))
        return counted

    async def candidates(
        self, queries: M3Output, modes: Sequence[Mode], limit: int, filter: Any
    ) -> list[dict[Mode, dict[str, float]]]:
        """A search for each query and mode; where the filter is cut and matches many records, for each slice."""
        if self._is_cut(filter):
            points, more = await self._scroll(filter, None, _FEW, False, False)
            if more is None:
                filter = Condition(self._edge_models.among([point.id for point in points]), quick=True)
        parts = self._slices(filter)
        found = await super().candidates(queries, modes, limit, next(parts))
        for part in parts:
            found = merged(found, await super().candidates(queries, modes, limit, part), limit)
        return found

    def translate(self, filter: Expression) -> Condition:
        """To a `qdrant_edge.Filter`."""
        named = {OURS.metadata_path(key).replace('"', "") for key in keys(filter)}
        return Condition(qdrant_filter(filter, EdgeDialect()), quick=named <= self._indexed)

    def is_native(self, filter: object) -> bool:
        """Whether it is a `qdrant_edge.Filter`."""
        return isinstance(filter, self._edge.Filter)

    def within(self, filter: Any, ids: Sequence[str]) -> Condition:
        """With a condition on points' ids, which is quick."""
        return Condition(super().within(filter.filter if isinstance(filter, Condition) else filter, ids), quick=True)

    def _note_indexes(self) -> None:
        with self._guard.use() as shard:
            self._indexed = {path.replace('"', "") for path in shard.info().payload_schema}

    def _is_cut(self, filter: Any) -> bool:
        """Whether to cut a filter: if no index answers it, and nothing else may stand still that long."""
        quick = filter is None or (isinstance(filter, Condition) and filter.quick)
        return GENTLY.get() and not quick and PART in self._indexed

    def _start(self) -> Place:
        with self._guard.use() as shard:
            return Place.start(shard.info().points_count)

    def _slices(self, filter: Any) -> Iterator[Any]:
        """The filter for the engine, in one piece or in several, between which the event loop gets its turn."""
        native = filter.filter if isinstance(filter, Condition) else filter
        if not self._is_cut(filter):
            yield native
            return
        for place in self._start().slices():
            yield self._edge_models.of_parts(native, place)
            give_way()

    async def clear(self) -> None:
        """Deletes all points."""
        await self.delete_matching(None)

    async def drop(self) -> None:
        """Removes the shard."""
        self._guard.drop()

    async def close(self) -> None:
        """Closes the shard."""
        self._guard.close()

    def optimize(self) -> None:
        """Builds the indexes, in a child process."""
        self._guard.optimize()

    async def _update_vectors(self, points: list[Any], condition: Any) -> None:
        with self._guard.use(WRITE_BYTES) as shard:
            shard.update(self._edge.UpdateOperation.update_vectors(points, condition))
            shard.flush()

    def _turn(self) -> AbstractContextManager[Any]:
        return self._guard.use()

    async def _upsert(self, points: list[Any], size: int) -> None:
        with self._guard.use(size) as shard:
            shard.update(self._edge.UpdateOperation.upsert_points(points))
            self._unflushed += size
            if self._unflushed >= _FLUSH_BYTES:
                shard.flush()  # lets the engine drop what it has logged
                self._unflushed = 0

    def _at_a_time(self, most: int) -> int:
        return min(most, _TURN) if GENTLY.get() else most

    async def _retrieve(self, ids: list[Any], payload: Any, vectors: Any) -> list[Any]:
        with self._guard.use() as shard:
            points = list(shard.retrieve(ids, with_payload=payload, with_vector=vectors))
        give_way()
        return points

    async def _scroll(self, filter: Any, offset: Any, limit: int, payload: Any, vectors: Any) -> tuple[list[Any], Any]:
        native = filter.filter if isinstance(filter, Condition) else filter
        if not (Place.is_one(offset) or (offset is None and self._is_cut(filter))):
            return self._scrolled(native, offset, limit, payload, vectors)
        points: list[Any] = []
        place: Place | None = self._start() if offset is None else Place.read(offset)
        while place is not None and len(points) < limit:
            part = self._edge_models.of_parts(native, place)
            some, following = self._scrolled(part, place.offset, limit - len(points), payload, vectors)
            points += some
            place = place.following(None if following is None else str(following))
        return points, place

    def _scrolled(self, filter: Any, offset: Any, limit: int, payload: Any, vectors: Any) -> tuple[list[Any], Any]:
        points: list[Any] = []
        while True:
            request = self._edge.ScrollRequest(
                offset=offset,
                limit=self._at_a_time(limit - len(points)),
                filter=filter,
                with_payload=payload,
                with_vector=vectors,
            )
            with self._guard.use() as shard:
                some, offset = shard.scroll(request)
            points += some
            give_way()
            if offset is None or len(points) >= limit:
                return points, offset

    async def _query(self, requests: list[Any]) -> list[list[Any]]:
        found = []
        for request in requests:
            with self._guard.use() as shard:
                found.append(list(shard.query(request)))
            give_way()
        return found
