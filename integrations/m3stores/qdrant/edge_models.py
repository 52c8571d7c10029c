"""What the embedded engine is given: configurations, points and queries, in the classes of qdrant_edge."""

from collections.abc import Iterable, Sequence
from typing import Any

from m3core import M3Output, Mode, Record, SparseVector
from m3core.output import FloatArray
from m3stores.collection import Schema
from m3stores.qdrant.layout import HASH, OURS, QdrantSettings
from m3stores.qdrant.slices import PART, Place, part_of


class EdgeModels:
    """Makes them.

    Dense vectors are compared by dot product, as `M3Output.score` does. Multi-vectors have no index: they score
    candidates, or all points.
    """

    def __init__(self, edge: Any, settings: QdrantSettings) -> None:
        """`edge` is the module qdrant_edge."""
        self._edge = edge
        self._settings = settings

    def config(self, schema: Schema) -> Any:
        """Of a shard."""
        edge = self._edge
        memory = edge.Memory.Cold if self._settings.on_disk else None
        vectors = {}
        if schema.dense_dim is not None:
            vectors["dense"] = edge.EdgeVectorParams(
                size=schema.dense_dim,
                distance=edge.Distance.Dot,
                quantization_config=self._quantization(),
                memory=memory,
            )
        if schema.multivector_dim is not None:
            vectors["multivector"] = edge.EdgeVectorParams(
                size=schema.multivector_dim,
                distance=edge.Distance.Dot,
                multivector_config=self._max_sim(),
                datatype=self._multivector_type(),
                hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=0),
                memory=edge.Memory.Cold,
            )
        sparse = {"sparse": edge.EdgeSparseVectorParams(memory=memory)} if "sparse" in schema.modes else None
        return edge.EdgeConfig(vectors=vectors or None, sparse_vectors=sparse, wal_enabled=True)

    def new_vectors(self, held: Schema, schema: Schema) -> list[Any]:
        """The updates that make room for what `schema` has and `held` has not."""
        edge, updates = self._edge, []
        make = edge.UpdateOperation
        if held.dense_dim is None and schema.dense_dim is not None:
            updates.append(make.create_dense_vector("dense", schema.dense_dim, edge.Distance.Dot))
        if held.multivector_dim is None and schema.multivector_dim is not None:
            size, kind = schema.multivector_dim, self._multivector_type()
            updates.append(make.create_dense_vector("multivector", size, edge.Distance.Dot, self._max_sim(), kind))
        if "sparse" in schema.modes and "sparse" not in held.modes:
            updates.append(make.create_sparse_vector("sparse"))
        return updates

    def field_indexes(self, held: Iterable[str] = ()) -> list[Any]:
        """The updates that make the indexes of metadata fields, but for those that are `held`, by their paths."""
        types, make = self._edge.PayloadSchemaType, self._edge.UpdateOperation.create_field_index
        unindexed = OURS.unindexed(self._settings.indexed, held)
        return [make(path, getattr(types, kind.title())) for path, kind in unindexed.items()]

    def first_indexes(self) -> list[Any]:
        """The updates that make the indexes of a new shard."""
        numbers = self._edge.UpdateOperation.create_field_index(PART, self._edge.PayloadSchemaType.Integer)
        return [numbers, *self.field_indexes()]

    def of_parts(self, filter: Any, place: Place) -> Any:
        """The filter of a slice's points."""
        edge = self._edge
        numbers = edge.RangeFloat(gte=place.first, lt=place.first + place.width)
        return edge.Filter(must=[edge.FieldCondition(PART, range=numbers), filter])

    def point(self, record: Record, output: M3Output, row: int, content: str) -> Any:
        """With the hash of its content, and the number of its slice."""
        point_id = OURS.point_id(record.id)
        payload = {**OURS.payload(record), HASH: content, PART: part_of(point_id)}
        return self._edge.Point(point_id, self._vectors(output, row), payload)

    def new_values(self, record_id: str, output: M3Output, row: int) -> Any:
        """Vectors for a point that is there."""
        return self._edge.PointVectors(OURS.point_id(record_id), self._vectors(output, row))

    def query(self, queries: M3Output, row: int, mode: Mode, limit: int, filter: Any, exact: bool) -> Any:
        """A search by one mode."""
        edge, values = self._edge, getattr(queries, mode)[row]
        params = None
        if exact or (mode == "dense" and filter is not None):  # whose index misses much of what a filter matches
            params = edge.SearchParams(exact=True, quantization=edge.QuantizationSearchParams(ignore=True))
        elif mode == "dense" and self._settings.quantization:
            params = edge.SearchParams(quantization=edge.QuantizationSearchParams(rescore=True, oversampling=2.0))
        nearest = edge.Query.Nearest(self._vector(values), using=mode)
        return edge.QueryRequest(query=nearest, limit=limit, filter=filter, params=params, with_payload=["id"])

    def of_content(self, hashes: Sequence[str]) -> Any:
        """The filter of points with these hashes."""
        edge = self._edge
        return edge.Filter(must=[edge.FieldCondition(HASH, match=edge.MatchAny(list(hashes)))])

    def among(self, ids: Sequence[Any], filter: Any = None, without: Sequence[str] = ()) -> Any:
        """The filter of some points. See `Models`."""
        edge = self._edge
        absent = [edge.Filter(must_not=[edge.HasVectorCondition(name)]) for name in without]
        must = [edge.HasIdCondition(set(ids)), *([] if filter is None else [filter])]
        return edge.Filter(must=must, should=absent or None)

    def filter_bytes(self, filter: Any) -> int:
        """There are no requests."""
        return 0

    def _vectors(self, output: M3Output, row: int) -> dict[str, Any]:
        return {mode: self._vector(getattr(output, mode)[row]) for mode in output.modes}

    def _vector(self, values: FloatArray | SparseVector) -> Any:
        """Lists, which are read twice as fast as arrays."""
        if isinstance(values, SparseVector):
            return self._edge.SparseVector(values.indices.tolist(), values.values.tolist())
        return values.tolist()

    def _max_sim(self) -> Any:
        return self._edge.MultiVectorConfig(self._edge.MultiVectorComparator.MaxSim)

    def _multivector_type(self) -> Any:
        types = self._edge.VectorStorageDatatype
        return types.Turbo4 if self._settings.multivector_type == "turbo4" else types.Float16

    def _quantization(self) -> Any:
        edge, pinned = self._edge, self._edge.Memory.Pinned
        match self._settings.quantization:
            case "int8":
                return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, quantile=0.99, memory=pinned)
            case "turbo4":
                return edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4, memory=pinned)
        return None
