"""What a server is given: configurations, points and queries, in the classes of qdrant_client."""

from collections.abc import Sequence
from typing import Any

from m3core import CollectionMismatch, M3Output, Mode, Record, SparseVector
from m3stores.collection import Schema
from m3stores.qdrant.layout import HASH, Layout, QdrantSettings

_KEY, _BULK = "m3", "m3_bulk"  # of what we note in a collection's metadata; an update replaces a key's whole value


class ServerModels:
    """Makes them, and reads what comes back.

    Dense vectors are compared by dot product, as `M3Output.score` does. Multi-vectors have no index, and are compared
    with candidates only.
    """

    def __init__(self, layout: Layout, settings: QdrantSettings) -> None:
        from qdrant_client import models

        self._m: Any = models
        self._layout = layout
        self._settings = settings

    def collection(self, schema: Schema, *, deferred: bool) -> dict[str, Any]:
        """The arguments of `create_collection`; `deferred` as if a bulk load had begun."""
        settings, layout, m = self._settings, self._layout, self._m
        vectors = {}
        if schema.dense_dim is not None:
            vectors[layout.dense] = m.VectorParams(
                size=schema.dense_dim,
                distance=m.Distance.DOT,
                on_disk=settings.on_disk or None,
                quantization_config=self._quantization(),
                hnsw_config=m.HnswConfigDiff(m=0) if deferred else None,
            )
        if schema.multivector_dim is not None:
            vectors[layout.multivector] = m.VectorParams(
                size=schema.multivector_dim,
                distance=m.Distance.DOT,
                on_disk=True,
                datatype=m.Datatype(settings.multivector_type),
                multivector_config=self._max_sim(),
                hnsw_config=m.HnswConfigDiff(m=0),
            )
        index = m.SparseIndexParams(on_disk=True) if settings.on_disk else None
        sparse = {layout.sparse: m.SparseVectorParams(index=index)} if "sparse" in schema.modes else None
        return {
            "vectors_config": vectors,
            "sparse_vectors_config": sparse,
            "shard_number": settings.shards,
            "replication_factor": settings.replicas,
            "write_consistency_factor": settings.write_consistency,
            "metadata": self.note(schema) | (self.deferral(None) if deferred else {}),
        }

    def note(self, schema: Schema) -> dict[str, Any]:
        """A schema, for a collection's metadata."""
        return {_KEY: schema.as_json()}

    def edges(self, info: Any) -> tuple[int | None, int] | None:
        """How many edges a node of the graph has: the dense vectors' own setting, if any, and the collection's.

        `None` if there are no dense vectors.
        """
        dense = self.vectors(info).get(self._layout.dense)
        if dense is None:
            return None
        return dense.hnsw_config.m if dense.hnsw_config else None, info.config.hnsw_config.m

    def with_edges(self, number: int) -> dict[str, Any]:
        """The change to a graph with so many; 0 is none."""
        return {self._layout.dense: self._m.VectorParamsDiff(hnsw_config=self._m.HnswConfigDiff(m=number))}

    def deferral(self, former: int | None) -> dict[str, Any]:
        """A note, for a collection's metadata, that its dense vectors had this setting before a bulk load."""
        return {_BULK: {"m": former}}

    def deferred(self, info: Any) -> dict[str, Any] | None:
        """That note."""
        note: dict[str, Any] | None = (info.config.metadata or {}).get(_BULK)
        return note

    def no_deferral(self) -> dict[str, Any]:
        """The change of metadata that removes it."""
        return {_BULK: None}

    def awakening(self) -> Any:
        """An empty change, by which a server goes on that has work to do and has not begun, after a restart say."""
        return self._m.OptimizersConfigDiff()

    def alias_change(self, alias: str, former: str | None, target: str) -> list[Any]:
        """The operations, for one request, that make an alias point to another collection."""
        m = self._m
        old = [] if former is None else [m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name=alias))]
        link = m.CreateAlias(collection_name=target, alias_name=alias)
        return [*old, m.CreateAliasOperation(create_alias=link)]

    def schema(self, info: Any, collection: str) -> Schema:
        """What a collection holds, by what the server says of it.

        Raises:
            CollectionMismatch: it has no vectors under the layout's names, or compares them by something else.
        """
        vectors, modes = self.vectors(info), self._layout.modes()
        held: dict[Mode, Any] = {modes[name]: found for name, found in vectors.items() if name in modes}
        noted = (info.config.metadata or {}).get(_KEY)
        schema = None if noted is None else Schema.from_json(noted)
        if not held or (schema is not None and not held.keys() >= set(schema.modes)):
            names = ", ".join(map(repr, sorted(vectors)))
            raise CollectionMismatch(
                f"collection {collection!r} has vectors called {names}: say with layout= which of them are which"
            )
        if schema is not None:
            return schema
        if self._layout.id is not None:
            raise CollectionMismatch(
                f"another program made the collection {collection!r}, whose records go by the ids of their points: "
                "give layout= with id=None, as LANGCHAIN has it"
            )
        for mode in ("dense", "multivector"):
            distance = held[mode].distance if mode in held else self._m.Distance.DOT
            if distance not in (self._m.Distance.DOT, self._m.Distance.COSINE):
                raise CollectionMismatch(
                    f"collection {collection!r} compares {mode} vectors by {distance.value}, not Dot"
                )
        return Schema(
            tuple(mode for mode in ("dense", "sparse", "multivector") if mode in held),
            held["dense"].size if "dense" in held else None,
            held["multivector"].size if "multivector" in held else None,
            None,
            foreign=True,
        )

    def vectors(self, info: Any) -> dict[str, Any]:
        """The parameters of a collection's vectors by name; the unnamed one's is empty."""
        params = info.config.params
        dense = params.vectors or {}
        return {**(dense if isinstance(dense, dict) else {"": dense}), **(params.sparse_vectors or {})}

    def new_vectors(self, held: Schema, schema: Schema) -> dict[str, Any]:
        """The configurations, by name, of the vectors that `schema` has and `held` has not."""
        m, new = self._m, {}
        dot = m.Distance.DOT
        if held.dense_dim is None and schema.dense_dim is not None:
            new[self._layout.dense] = m.DenseVectorNameConfig(
                dense=m.DenseVectorConfig(size=schema.dense_dim, distance=dot)
            )
        if held.multivector_dim is None and schema.multivector_dim is not None:
            new[self._layout.multivector] = m.DenseVectorNameConfig(
                dense=m.DenseVectorConfig(
                    size=schema.multivector_dim,
                    distance=dot,
                    multivector_config=self._max_sim(),
                    datatype=m.Datatype(self._settings.multivector_type),
                )
            )
        if "sparse" in schema.modes and "sparse" not in held.modes:
            new[self._layout.sparse] = m.SparseVectorNameConfig(sparse=m.SparseVectorConfig())
        return new

    def unindexed_multivectors(self) -> dict[str, Any]:
        """The change that leaves multi-vectors made later without an index, as those made at first."""
        return {
            self._layout.multivector: self._m.VectorParamsDiff(hnsw_config=self._m.HnswConfigDiff(m=0), on_disk=True)
        }

    def point(self, record: Record, output: M3Output, row: int, content: str) -> Any:
        """With the hash of its content."""
        payload = {**self._layout.payload(record), HASH: content}
        return self._m.PointStruct(
            id=self._layout.point_id(record.id), vector=self._vectors(output, row), payload=payload
        )

    def new_values(self, record_id: str, output: M3Output, row: int) -> Any:
        """Vectors for a point that is there."""
        return self._m.PointVectors(id=self._layout.point_id(record_id), vector=self._vectors(output, row))

    def query(self, queries: M3Output, row: int, mode: Mode, limit: int, filter: Any, exact: bool) -> Any:
        """A search by one mode."""
        m = self._m
        params = None
        if exact:
            params = m.SearchParams(exact=True, quantization=m.QuantizationSearchParams(ignore=True))
        elif mode == "dense" and self._settings.quantization:
            params = m.SearchParams(quantization=m.QuantizationSearchParams(rescore=True, oversampling=2.0))
        return m.QueryRequest(
            query=m.NearestQuery(nearest=self._value(queries, mode, row)),
            using=self._layout.vector(mode) or None,
            limit=limit,
            filter=filter,
            params=params,
            with_payload=False if self._layout.id is None else [self._layout.id],
        )

    def of_content(self, hashes: Sequence[str]) -> Any:
        """The filter of points with these hashes."""
        m = self._m
        return m.Filter(must=[m.FieldCondition(key=HASH, match=m.MatchAny(any=list(hashes)))])

    def among(self, ids: Sequence[Any], filter: Any = None, without: Sequence[str] = ()) -> Any:
        """The filter of some points. See `Models`."""
        m = self._m
        absent = [m.Filter(must_not=[m.HasVectorCondition(has_vector=name)]) for name in without]
        must = [m.HasIdCondition(has_id=list(ids)), *([] if filter is None else [filter])]
        return m.Filter(must=must, should=absent or None)

    def filter_bytes(self, filter: Any) -> int:
        """As JSON, which is longer than by gRPC."""
        return 0 if filter is None else len(filter.model_dump_json(exclude_none=True))

    def _vectors(self, output: M3Output, row: int) -> Any:
        return {self._layout.vector(mode): self._value(output, mode, row) for mode in output.modes}

    def _value(self, output: M3Output, mode: Mode, row: int) -> Any:
        values = getattr(output, mode)[row]
        if isinstance(values, SparseVector):
            return self._m.SparseVector(indices=values.indices.tolist(), values=values.values.tolist())
        return values.tolist()

    def _max_sim(self) -> Any:
        return self._m.MultiVectorConfig(comparator=self._m.MultiVectorComparator.MAX_SIM)

    def _quantization(self) -> Any:
        m = self._m
        match self._settings.quantization:
            case "int8":
                config = m.ScalarQuantizationConfig(type=m.ScalarType.INT8, quantile=0.99, always_ram=True)
                return m.ScalarQuantization(scalar=config)
            case "turbo4":
                config = m.TurboQuantQuantizationConfig(bits=m.TurboQuantBitSize.BITS4, always_ram=True)
                return m.TurboQuantization(turbo=config)
        return None
