"""The embedded engine: Qdrant in this process, by qdrant-edge."""

import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3core import Record
from m3stores.collection import Schema
from m3stores.filters import Expression
from m3stores.qdrant.base import QdrantEngine
from m3stores.qdrant.edge_models import EdgeModels
from m3stores.qdrant.filters import EdgeDialect, qdrant_filter
from m3stores.qdrant.guard import GuardedShard, load_edge
from m3stores.qdrant.layout import OURS, QdrantSettings

if TYPE_CHECKING:
    import qdrant_edge

_FLUSH_BYTES = 64 << 20  # a log of more takes long to read again after a crash (20,000 records: 2 s)
_SCROLL = 1000


class EdgeEngine(QdrantEngine):
    """See `m3stores.engine.Engine`. Each call is a turn of its own, so that other threads get theirs."""

    def __init__(self, collection: str, path: str | Path | None, settings: QdrantSettings) -> None:
        """Opens the collection, if it exists. See `GuardedShard`."""
        self._edge: Any = load_edge()
        self._guard = GuardedShard(self._edge, collection, path)
        weakref.finalize(self, self._guard.close)
        self._edge_models = EdgeModels(self._edge, settings)
        super().__init__(self._edge_models, OURS, number_bytes=4)
        self._unflushed = 0
        if self._guard.schema is not None:
            with self._guard.use() as shard:
                for update in self._edge_models.field_indexes(shard.info().payload_schema):
                    shard.update(update)
        self.address = None if path is None else f"qdrant:{path}"

    async def schema(self, *, fresh: bool = False) -> Schema | None:
        """What the collection holds. Nobody else can change that."""
        return self._guard.schema

    async def create(self, schema: Schema) -> Schema:
        """Makes the shard, if there is none."""
        if self._guard.schema is None:
            self._guard.create(self._edge_models.config(schema), schema, self._edge_models.field_indexes())
        assert self._guard.schema is not None
        return self._guard.schema

    async def extend(self, schema: Schema) -> None:
        """Makes the named vectors. Those that are there already stay."""
        held = self._guard.schema
        assert held is not None
        with self._guard.use() as shard:
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
        with self._guard.use() as shard:
            return shard.count(self._edge.CountRequest(filter=filter))

    def translate(self, filter: Expression) -> "qdrant_edge.Filter":
        """To a `qdrant_edge.Filter`."""
        native: qdrant_edge.Filter = qdrant_filter(filter, EdgeDialect())
        return native

    def is_native(self, filter: object) -> bool:
        """Whether it is a `qdrant_edge.Filter`."""
        return isinstance(filter, self._edge.Filter)

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
        with self._guard.use() as shard:
            shard.update(self._edge.UpdateOperation.update_vectors(points, condition))
            shard.flush()

    def _turn(self) -> AbstractContextManager[Any]:
        return self._guard.use()

    async def _upsert(self, points: list[Any], size: int) -> None:
        with self._guard.use() as shard:
            shard.update(self._edge.UpdateOperation.upsert_points(points))
            self._unflushed += size
            if self._unflushed >= _FLUSH_BYTES:
                shard.flush()  # lets the engine drop what it has logged
                self._unflushed = 0

    async def _retrieve(self, ids: list[Any], payload: Any, vectors: Any) -> list[Any]:
        with self._guard.use() as shard:
            return list(shard.retrieve(ids, with_payload=payload, with_vector=vectors))

    async def _scroll(self, filter: Any, offset: Any, limit: int, payload: Any, vectors: Any) -> tuple[list[Any], Any]:
        request = self._edge.ScrollRequest(
            offset=offset, limit=limit, filter=filter, with_payload=payload, with_vector=vectors
        )
        with self._guard.use() as shard:
            points, following = shard.scroll(request)
        return list(points), following

    async def _query(self, requests: list[Any]) -> list[list[Any]]:
        with self._guard.use() as shard:
            return [list(points) for points in shard.query_batch(self._edge.QueryBatchRequest(requests))]
