"""The engine of a Qdrant server, by qdrant-client: blocking or async, over REST or gRPC."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from m3core import InvalidInput, Record, StoreError
from m3stores.collection import Schema
from m3stores.filters import Expression
from m3stores.qdrant.base import PointsMissing, QdrantEngine, payload_bytes
from m3stores.qdrant.bulk import BulkLoad
from m3stores.qdrant.calls import Calls, NotFound
from m3stores.qdrant.filters import ServerDialect, qdrant_filter
from m3stores.qdrant.layout import Layout, QdrantSettings
from m3stores.qdrant.server_models import ServerModels

_REST_BYTES, _GRPC_BYTES = 22, 4  # a number takes, as text and as it is
_DELETED = 100_000  # the most ids in one request
_PAYLOAD_BYTES = 8 << 20  # of a record; the largest multi-vector takes 22 MB of the 32 that a server takes


@dataclass
class Known:
    """What the engines of one store know of its collection.

    Attributes:
        schema: of the collection; `None` if it has not been read, or does not exist.
        deferred: whether a bulk load had put its graph off and not ended, when the schema was read.
        deferring: whether this store is at a bulk load.
    """

    schema: Schema | None = None
    deferred: bool = False
    deferring: bool = False


class ServerEngine(QdrantEngine):
    """See `m3stores.engine.Engine`. What is known of the collection is read once, when it is first needed."""

    def __init__(
        self,
        collection: str,
        calls: Calls,
        known: Known,
        *,
        url: str,
        layout: Layout,
        settings: QdrantSettings,
        grpc: bool,
    ) -> None:
        self._server_models = ServerModels(layout, settings)
        super().__init__(self._server_models, layout, _GRPC_BYTES if grpc else _REST_BYTES)
        self._name = collection
        self._calls = calls
        self._known = known
        self._settings = settings
        self.address: str | None = f"qdrant:{url}"
        self._bulk = BulkLoad(collection, self._call, calls, self._server_models)

    async def schema(self, *, fresh: bool = False) -> Schema | None:
        """What the collection holds."""
        self._calls.check()
        if self._known.schema is None or fresh:
            try:
                info = await self._call("get_collection")
            except NotFound:
                self._known.schema = None
                return None
            schema = self._server_models.schema(info, self._name)
            self._known.deferred = self._server_models.deferred(info) is not None
            if not schema.foreign:
                await self._index_fields(info.payload_schema)
            self._known.schema = schema
        return self._known.schema

    async def _index_fields(self, held: Iterable[str]) -> None:
        """Makes the indexes of metadata fields that there are not yet."""
        for path, kind in self._layout.unindexed(self._settings.indexed, held).items():
            await self._call("create_payload_index", field_name=path, field_schema=kind, wait=True)

    async def create(self, schema: Schema) -> Schema:
        """Makes the collection."""
        try:
            arguments = self._server_models.collection(schema, deferred=self._known.deferring)
            await self._call("create_collection", **arguments)
        except InvalidInput:  # somebody else was faster, or it cannot be
            if await self.schema() is None:
                raise
        made = await self.schema()
        if made is None or made.foreign:
            raise StoreError(f"collection {self._name!r} has lost its metadata: QdrantStore needs Qdrant 1.16 or later")
        return made

    async def extend(self, schema: Schema) -> None:
        """Makes the named vectors. Those that are there already stay."""
        held = await self.schema()
        assert held is not None
        for name, config in self._server_models.new_vectors(held, schema).items():
            try:
                await self._call("create_vector_name", vector_name=name, vector_name_config=config)
            except (InvalidInput, NotFound) as error:
                if name not in self._server_models.vectors(await self._call("get_collection")):
                    raise InvalidInput(
                        f"collection {self._name!r} cannot get vectors called {name!r}, which takes Qdrant 1.18 or "
                        f"later: index the texts anew into another collection ({error})"
                    ) from error
        if held.multivector_dim is None and schema.multivector_dim is not None:
            changes = self._server_models.unindexed_multivectors()
            await self._call("update_collection", vectors_config=changes)

    async def become(self, schema: Schema) -> None:
        """Notes the schema in the collection's metadata."""
        await self._call("update_collection", metadata=self._server_models.note(schema))
        self._known.schema = schema

    def check(self, records: Sequence[Record]) -> None:
        """Refuses what the layout has no place for, and what would not fit into a request with the vectors."""
        for record in records:
            self._layout.check(record)
            if payload_bytes(record) > _PAYLOAD_BYTES:
                raise InvalidInput(
                    f"the text and metadata of record {record.id!r} take more than {_PAYLOAD_BYTES >> 20} MB: split it"
                )

    async def delete(self, ids: Sequence[str]) -> None:
        """Deletes by id."""
        selected = self._ids(ids)
        for start in range(0, len(selected), _DELETED):
            await self._call("delete", points_selector=selected[start : start + _DELETED], wait=True)

    async def delete_matching(self, filter: Any) -> None:
        """Deletes by filter."""
        await self._call("delete", points_selector=filter, wait=True)

    async def count(self, filter: Any) -> int:
        """Counts exactly."""
        answer = await self._call("count", count_filter=filter, exact=True)
        return int(answer.count)

    def translate(self, filter: Expression) -> Any:
        """To a `qdrant_client.models.Filter`."""
        return qdrant_filter(filter, ServerDialect(self._layout))

    def is_native(self, filter: object) -> bool:
        """Whether it is a `qdrant_client.models.Filter`."""
        from qdrant_client import models

        return isinstance(filter, models.Filter)

    async def clear(self) -> None:
        """Deletes all points."""
        from qdrant_client import models

        await self.delete_matching(models.Filter())

    async def drop(self) -> None:
        """Deletes the collection."""
        if (target := (await self._aliases()).get(self._name)) is not None:  # which a server would pass over
            raise InvalidInput(f"{self._name!r} is an alias of the collection {target!r}: drop that one")
        await self._call("delete_collection")
        self._known.schema = None

    async def begin_bulk(self) -> None:
        """From now on the dense vectors' graph is not built, of a collection that is made later either."""
        self._known.deferring = True
        await self._bulk.begin()

    async def end_bulk(self) -> None:
        """Puts the settings back."""
        self._known.deferring = False
        await self._bulk.end()

    async def built(self, timeout: float, show_progress: bool) -> None:
        """Waits for the server's indexes. See `BulkLoad`."""
        await self._bulk.built(timeout, show_progress)

    async def aliased(self, alias: str) -> str | None:
        """The collection that an alias points to; `None` if there is no such alias.

        Raises:
            InvalidInput: no alias can be called so, or a collection is.
        """
        if not alias:
            raise InvalidInput("an alias needs a name")
        target = (await self._aliases()).get(alias)
        if target is None and (alias == self._name or await self._calls("collection_exists", collection_name=alias)):
            raise InvalidInput(
                f"{alias!r} is the name of a collection, which no alias can have: choose another one, or index into a "
                f"collection of another name and drop {alias!r} before the alias is made"
            )
        return target

    async def point_alias(self, alias: str) -> str | None:
        """Makes an alias point to this collection, at once. Returns what it pointed to before."""
        aliases = await self._aliases()
        former, target = await self.aliased(alias), aliases.get(self._name, self._name)
        if await self.schema(fresh=True) is None:
            raise InvalidInput(f"collection {self._name!r} does not exist: its first upsert makes it")
        if former != target:
            operations = self._server_models.alias_change(alias, former, target)
            await self._calls("update_collection_aliases", change_aliases_operations=operations)
        return former

    async def _aliases(self) -> dict[str, str]:
        answer = await self._calls("get_aliases")
        return {alias.alias_name: alias.collection_name for alias in answer.aliases}

    async def close(self) -> None:
        """Closes the client."""
        await self._calls.close()

    async def _call(self, method: str, **arguments: Any) -> Any:
        try:
            return await self._calls(method, collection_name=self._name, **arguments)
        except NotFound:
            self._known.schema = None  # somebody has removed it
            raise

    async def _upsert(self, points: list[Any], size: int) -> None:
        await self._call("upsert", points=points, wait=True)

    async def _update_vectors(self, points: list[Any], condition: Any) -> None:
        try:
            await self._call("update_vectors", points=points, update_filter=condition, wait=True)
        except NotFound as error:
            raise PointsMissing(str(error)) from error

    async def _retrieve(self, ids: list[Any], payload: Any, vectors: Any) -> list[Any]:
        points: list[Any] = await self._call("retrieve", ids=ids, with_payload=payload, with_vectors=vectors)
        return points

    async def _scroll(self, filter: Any, offset: Any, limit: int, payload: Any, vectors: Any) -> tuple[list[Any], Any]:
        points, following = await self._call(
            "scroll", scroll_filter=filter, offset=offset, limit=limit, with_payload=payload, with_vectors=vectors
        )
        return points, following

    async def _query(self, requests: list[Any]) -> list[list[Any]]:
        answers = await self._call("query_batch_points", requests=requests)
        return [answer.points for answer in answers]
