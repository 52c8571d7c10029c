"""The embedded engine: Qdrant in this process, by qdrant-edge."""

import uuid
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3core import M3Output, Mode, Record
from m3stores.collection import Schema
from m3stores.filters import Expression
from m3stores.qdrant.filters import edge_filter, flags
from m3stores.qdrant.guard import GuardedShard, load_edge

if TYPE_CHECKING:
    import qdrant_edge

_NAMESPACE = uuid.UUID("6d33a0b1-52f4-4c87-9d0e-3f8f5c1c7a42")  # of point ids; changing it orphans every collection
_POINTS, _BYTES = 256, 8 << 20  # the most in one write
_FLUSH_BYTES = 64 << 20  # a log of more takes long to read again after a crash (20,000 records: 2 s)
_SCROLL = 1000


class EdgeEngine:
    """See `m3stores.collection.Engine`.

    Dense vectors are compared by dot product, as `M3Output.score` does. Multi-vectors are kept as float16 on disk,
    without an index: they score candidates, or all points. A point's id is a UUID of the record's id.
    """

    def __init__(self, collection: str, path: str | Path | None) -> None:
        """Opens the collection, if it exists. See `GuardedShard`."""
        self._edge: Any = load_edge()
        self._guard = GuardedShard(self._edge, collection, path)
        weakref.finalize(self, self._guard.close)
        self._unflushed = 0

    @property
    def schema(self) -> Schema | None:
        """What the collection holds."""
        return self._guard.schema

    def create(self, schema: Schema) -> Schema:
        """Makes the shard, if there is none."""
        if self.schema is None:
            self._guard.create(self._config(schema), schema)
        assert self.schema is not None
        return self.schema

    def _config(self, schema: Schema) -> Any:
        edge = self._edge
        vectors = {}
        if schema.dense_dim is not None:
            vectors["dense"] = edge.EdgeVectorParams(size=schema.dense_dim, distance=edge.Distance.Dot)
        if schema.multivector_dim is not None:
            vectors["multivector"] = edge.EdgeVectorParams(
                size=schema.multivector_dim,
                distance=edge.Distance.Dot,
                multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
                datatype=edge.VectorStorageDatatype.Float16,
                hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=0),
                memory=edge.Memory.Cold,
            )
        sparse = {"sparse": edge.EdgeSparseVectorParams()} if "sparse" in schema.modes else None
        return edge.EdgeConfig(vectors=vectors or None, sparse_vectors=sparse, wal_enabled=True)

    def write(self, records: Sequence[Record], output: M3Output) -> None:
        """Upserts in portions, so that other threads get their turn and no write outgrows the log."""
        for rows, size in _portions(records, output):
            points = [self._point(records[row], output, row) for row in rows]
            with self._guard.use() as shard:
                shard.update(self._edge.UpdateOperation.upsert_points(points))
                self._unflushed += size
                if self._unflushed >= _FLUSH_BYTES:
                    shard.flush()  # lets the engine drop what it has logged
                    self._unflushed = 0

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes by id."""
        with self._guard.use() as shard:
            shard.update(self._edge.UpdateOperation.delete_points([_point_id(i) for i in ids]))

    def delete_matching(self, filter: Any) -> None:
        """Looks the points up and deletes them by id: a filter in the log might be too deep for the log's reader."""
        offset = None
        while True:
            request = self._edge.ScrollRequest(
                offset=offset, limit=_SCROLL, filter=filter, with_payload=False, with_vector=False
            )
            with self._guard.use() as shard:
                points, offset = shard.scroll(request)
                if points:
                    shard.update(self._edge.UpdateOperation.delete_points([point.id for point in points]))
            if offset is None:
                return

    def read(self, ids: Sequence[str]) -> dict[str, Record]:
        """Retrieves payloads."""
        with self._guard.use() as shard:
            points = shard.retrieve([_point_id(i) for i in ids], with_payload=True, with_vector=False)
        payloads = [point.payload or {} for point in points]
        return {p["id"]: Record(p["id"], p["text"], p["metadata"]) for p in payloads}

    def count(self, filter: Any) -> int:
        """Counts exactly."""
        with self._guard.use() as shard:
            return shard.count(self._edge.CountRequest(filter=filter))

    def translate(self, filter: Expression) -> "qdrant_edge.Filter":
        """To a `qdrant_edge.Filter`."""
        return edge_filter(filter)

    def is_native(self, filter: object) -> bool:
        """Whether it is a `qdrant_edge.Filter`."""
        return isinstance(filter, self._edge.Filter)

    def candidates(
        self, queries: M3Output, modes: Sequence[Mode], limit: int, filter: Any
    ) -> list[dict[Mode, dict[str, float]]]:
        """One batch for all queries and modes."""
        legs = [(row, mode) for row in range(len(queries)) for mode in modes if _has_content(queries, row, mode)]
        points = self._query(queries, legs, [{"limit": limit, "filter": filter}] * len(legs))
        found: list[dict[Mode, dict[str, float]]] = [{mode: {} for mode in modes} for _ in range(len(queries))]
        for (row, mode), scored in zip(legs, points, strict=True):
            found[row][mode] = scored
        return found

    def scores(self, queries: M3Output, wanted: Sequence[tuple[int, Mode, Sequence[str]]]) -> list[dict[str, float]]:
        """One batch of exact searches among the given ids."""
        found: list[dict[str, float]] = [{} for _ in wanted]
        asked = [n for n, (row, mode, _) in enumerate(wanted) if _has_content(queries, row, mode)]
        exact = self._edge.SearchParams(exact=True)
        options = []
        for n in asked:
            ids = {_point_id(i) for i in wanted[n][2]}
            among = self._edge.Filter(must=[self._edge.HasIdCondition(ids)])
            options.append({"limit": len(ids), "filter": among, "params": exact})
        for n, scored in zip(asked, self._query(queries, [wanted[n][:2] for n in asked], options), strict=True):
            found[n] = scored
        return found

    def close(self) -> None:
        """Closes the shard."""
        self._guard.close()

    def _query(
        self, queries: M3Output, legs: Sequence[tuple[int, Mode]], options: Sequence[dict[str, Any]]
    ) -> list[dict[str, float]]:
        requests = [
            self._edge.QueryRequest(query=self._vector(queries, *leg), with_payload=["id"], **option)
            for leg, option in zip(legs, options, strict=True)
        ]
        if not requests:
            return []
        with self._guard.use() as shard:
            answers = shard.query_batch(self._edge.QueryBatchRequest(requests))
        scored = []
        for (row, mode), points in zip(legs, answers, strict=True):
            tokens = len(queries.multivector[row]) if mode == "multivector" and queries.multivector else 1
            scored.append({p.payload["id"]: p.score / tokens for p in points if p.payload})  # MaxSim is a sum in Qdrant
        return scored

    def _vector(self, queries: M3Output, row: int, mode: Mode) -> Any:
        values = getattr(queries, mode)[row]
        return self._edge.Query.Nearest(self._sparse(values) if mode == "sparse" else values, using=mode)

    def _point(self, record: Record, output: M3Output, row: int) -> Any:
        vectors = {mode: getattr(output, mode)[row] for mode in output.modes}
        if "sparse" in vectors:
            vectors["sparse"] = self._sparse(vectors["sparse"])
        payload = {"id": record.id, "text": record.text, "metadata": record.metadata}
        if marked := sorted(set(flags(record.metadata))):
            payload["flags"] = marked
        return self._edge.Point(_point_id(record.id), vectors, payload)

    def _sparse(self, vector: Any) -> Any:
        return self._edge.SparseVector(vector.indices, vector.values)


def _point_id(record_id: str) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, record_id)


def _has_content(queries: M3Output, row: int, mode: Mode) -> bool:
    """A query without lexical weights has nothing to look up."""
    return mode != "sparse" or queries.sparse is None or len(queries.sparse[row]) > 0


def _portions(records: Sequence[Record], output: M3Output) -> Iterator[tuple[list[int], int]]:
    """Rows by turns, as many at a time as one write takes, and their bytes, more or less."""
    portion: list[int] = []
    size = 0
    for row, record in enumerate(records):
        row_size = len(record.text) + sum(_bytes(getattr(output, mode)[row]) for mode in output.modes)
        if portion and (len(portion) == _POINTS or size + row_size > _BYTES):
            yield portion, size
            portion, size = [], 0
        portion.append(row)
        size += row_size
    if portion:
        yield portion, size


def _bytes(vector: Any) -> int:
    return vector.nbytes if isinstance(vector, np.ndarray) else int(vector.indices.nbytes + vector.values.nbytes)
