"""The engine of Chroma: dense vectors in Chroma, sparse ones in its records' metadata, multi-vectors beside it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3core import InvalidInput, M3Output, Mode, Record
from m3core.output import FloatArray
from m3stores.chroma.collection import ChromaCollection
from m3stores.chroma.derived import Derived, Known
from m3stores.chroma.filters import chroma_where, needs_helpers
from m3stores.chroma.listing import Listings
from m3stores.chroma.metadata import decode, encode
from m3stores.chroma.records import SPARSE, packed, record_of, stored_metadata, unpacked
from m3stores.chroma.scores import Scores
from m3stores.chroma.sidecar import Sidecar
from m3stores.collection import Page, Schema
from m3stores.engine import Turns, by_portions
from m3stores.filters import Expression

_SCHEMA = "m3"  # the key in a collection's metadata
_BYTES = 8 << 20  # the most in one write


@dataclass(frozen=True)
class Where:
    """A filter in Chroma's own terms.

    Attributes:
        where: of the metadata.
        document: of the text.
    """

    where: dict[str, Any] | None = None
    document: dict[str, Any] | None = None

    def arguments(self) -> dict[str, Any]:
        """Of Chroma's methods."""
        return {"where": self.where, "where_document": self.document}


class ChromaEngine:
    """See `m3stores.engine.Engine`."""

    def __init__(
        self,
        collection: ChromaCollection,
        known: Known,
        *,
        sidecar: Sidecar | None,
        address: str | None,
        refresh: float,
        blocking: bool,
        on_close: Callable[[], None],
    ) -> None:
        """For `ChromaStore`. Engines of one store share `known`."""
        self._collection = collection
        self._known = known
        self._sidecar = sidecar
        self._turns = Turns(blocking=blocking)  # of writes: Chroma and what is derived from it go the same way
        self._derived = Derived(collection, known, self._turns, refresh)
        self._scores = Scores(collection, self._derived, sidecar)
        self._listings = Listings()
        self._on_close = on_close
        self.address = address

    async def schema(self) -> Schema | None:
        """What the collection holds; of one made by others, dense vectors."""
        self._collection.check()
        if self._known.schema is None and await self._collection.exists():
            noted = (await self._collection.metadata()).get(_SCHEMA)
            if noted is not None:
                self._known.schema = Schema.from_json(json.loads(noted))
            else:
                first = (await self._collection.call("get", limit=1, include=["embeddings"]))["embeddings"]
                if not len(first):
                    return None  # as good as none: an upsert adopts it
                self._known.schema = Schema(("dense",), len(first[0]), None, None, foreign=True)
        return self._known.schema

    async def create(self, schema: Schema) -> Schema:
        """Makes the collection."""
        self._check_sidecar(schema.modes)
        await self._collection.create({_SCHEMA: json.dumps(schema.as_json())})
        made = await self.schema()
        if made is None:  # an empty one of others
            await self.become(schema)
            made = schema
        if await self._collection.call("count") == 0:
            await self._derived.begin()
        return made

    async def extend(self, schema: Schema) -> None:
        """There is room for sparse vectors and multi-vectors always, and never for dense ones later."""
        held = await self.schema()
        if held is not None and held.dense_dim is None and schema.dense_dim is not None:
            raise InvalidInput("Chroma cannot add dense vectors to a collection made without: make a new one")
        self._check_sidecar(schema.modes)

    async def become(self, schema: Schema) -> None:
        """Notes the schema in the collection's metadata. Records of others get what filters need."""
        if self._known.schema is not None and self._known.schema.foreign:
            async for page in self._collection.pages(include=["metadatas"]):
                encoded = [encode(decode(held or {})) for held in page["metadatas"]]
                await self._collection.call("update", ids=page["ids"], metadatas=encoded)
        metadata = await self._collection.metadata()
        metadata[_SCHEMA] = json.dumps(schema.as_json())
        await self._collection.call("modify", metadata=metadata)
        self._known.schema = schema

    def check(self, records: Sequence[Record]) -> None:
        """Refuses metadata that Chroma cannot hold."""
        for record in records:
            try:
                encode(record.metadata)
            except InvalidInput as error:
                raise InvalidInput(f"record {record.id!r}: {error}") from error

    async def write(self, records: Sequence[Record], output: M3Output, hashes: Sequence[str]) -> None:
        """Upserts in portions: multi-vectors first, so that no record is ever without its own."""
        self._check_sidecar(output.modes)
        width = 1 if output.dense is None else output.dense.shape[1]
        sizes = [4 * width + 8 * len(record.text) for record in records]
        for rows in by_portions(sizes, await self._collection.at_a_time(), _BYTES):
            async with self._turns:
                await self._write([records[row] for row in rows], output[rows], [hashes[row] for row in rows])

    async def _write(self, records: Sequence[Record], output: M3Output, hashes: Sequence[str]) -> None:
        ids = [record.id for record in records]
        if self._sidecar is not None and output.multivector is not None:
            self._sidecar.put(ids, hashes, output.multivector)
        old = await self._metadata(list(await self._derived.hashes(ids)))
        metadatas = [
            stored_metadata(record, output, row, hashes[row], old.get(record.id, {}))
            for row, record in enumerate(records)
        ]
        await self._collection.call(
            "upsert",
            ids=ids,
            embeddings=np.ones((len(ids), 1), dtype=np.float32) if output.dense is None else output.dense,
            documents=[record.text for record in records],
            metadatas=metadatas,
        )
        sparse = None if output.sparse is None else [unpacked(packed(vector)) for vector in output.sparse]
        await self._derived.wrote(ids, hashes, sparse, output.dense)
        if self._sidecar is not None and output.multivector is not None:
            self._sidecar.keep(ids, hashes)

    async def fill(self, ids: Sequence[str], output: M3Output) -> None:
        """Adds sparse vectors to the metadata, and multi-vectors beside it."""
        async with self._turns:
            hashes = await self._derived.hashes(ids)
            here = [row for row, i in enumerate(ids) if i in hashes]
            kept, contents, output = [ids[row] for row in here], [hashes[ids[row]] for row in here], output[here]
            if output.multivector is not None and self._sidecar is not None:
                self._sidecar.put(kept, contents, output.multivector)
            if output.sparse is not None and kept:
                sparse = [packed(vector) for vector in output.sparse]
                await self._collection.call("update", ids=kept, metadatas=[{SPARSE: text} for text in sparse])
                await self._derived.wrote(kept, contents, [unpacked(text) for text in sparse], None)

    async def lacking(self, ids: Sequence[str], modes: Sequence[Mode]) -> set[str]:
        """Reads metadata, and looks beside it."""
        held = await self._metadata(ids)
        schema = await self.schema()
        lacking = {i for i in held if "sparse" in modes and SPARSE not in held[i]}
        if "dense" in modes and schema is not None and schema.dense_dim is None:
            lacking |= held.keys()
        if "multivector" in modes:
            hashes = await self._derived.hashes(ids)
            lacking |= hashes.keys() - (self._sidecar.present(hashes) if self._sidecar is not None else set())
        return lacking

    async def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """From the index, or read."""
        return await self._derived.hashes(ids)

    async def delete(self, ids: Sequence[str]) -> None:
        """Deletes the records, and then what is beside them."""
        most = await self._collection.at_a_time()
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), most):
            async with self._turns:
                if some := list(await self._derived.hashes(wanted[start : start + most])):
                    await self._collection.call("delete", ids=some)
                    await self._derived.removed(some)
                    if self._sidecar is not None:
                        self._sidecar.remove(some)

    async def delete_matching(self, filter: Any) -> None:
        """Looks the ids up, and deletes them."""
        await self.delete(await self._scores.matching(filter))

    async def read(self, ids: Sequence[str]) -> dict[str, Record]:
        """Texts and metadata."""
        found = {}
        async for page in self._collection.some(list(dict.fromkeys(ids)), ["documents", "metadatas"]):
            for held in zip(page["ids"], page["documents"], page["metadatas"], strict=True):
                found[held[0]] = record_of(*held)
        return found

    async def page(self, filter: Any, start: str | None, size: int, modes: Sequence[Mode]) -> Page:
        """From a listing of all ids that was made for the first page: what is deleted meanwhile hides nothing."""
        if start is None:
            start = self._listings.add(await self._scores.matching(filter))
        elif not self._listings.has(start):  # another process's
            start = self._listings.add(await self._scores.matching(filter), like=start)
        ids, following = self._listings.next(start, size)
        include = ["documents", "metadatas", *(["embeddings"] if "dense" in modes else [])]
        held: dict[str, list[Any]] = {key: [] for key in ("ids", *include)}
        async for page in self._collection.some(ids, include):
            for key in held:
                held[key] += list(page[key])
        rows = zip(held["ids"], held["documents"], held["metadatas"], strict=True)
        records = [record_of(*row) for row in rows]
        schema = await self.schema()
        output = self._scores.gathered(held, modes, schema) if modes and schema is not None else None
        return Page(records, output, following)

    async def dense(self, ids: Sequence[str]) -> dict[str, FloatArray]:
        """Embeddings."""
        return await self._scores.dense(ids)

    async def count(self, filter: Any) -> int:
        """Exact."""
        if filter is None:
            return int(await self._collection.call("count"))
        return len(await self._scores.matching(filter))

    def translate(self, filter: Expression) -> Where | None:
        """To `Where`."""
        schema = self._known.schema
        if schema is not None and schema.foreign and needs_helpers(filter):
            raise InvalidInput(
                "another program made this collection, without what such filters need: give Chroma's own, as "
                "m3stores.chroma.Where({'side': 'pro'}), or open it with adopt=True and upsert"
            )
        where = chroma_where(filter)
        return None if where is None else Where(where)

    def is_native(self, filter: object) -> bool:
        """Whether it is a `Where`."""
        return isinstance(filter, Where)

    async def candidates(
        self, queries: M3Output, modes: Sequence[Mode], limit: int, filter: Any
    ) -> list[dict[Mode, dict[str, float]]]:
        """By mode: dense from Chroma, the others from what is derived and beside."""
        found: list[dict[Mode, dict[str, float]]] = [{} for _ in range(len(queries))]
        among = None if filter is None else await self._scores.matching(filter)
        for mode in modes:
            for row, scored in enumerate(await self._scores.best(queries, mode, limit, filter, among)):
                found[row][mode] = scored
        return found

    async def scores(
        self, queries: M3Output, wanted: Sequence[tuple[int, Mode, Sequence[str]]]
    ) -> list[dict[str, float]]:
        """Exact."""
        return [await self._scores.of(queries, row, mode, ids) for row, mode, ids in wanted]

    async def clear(self) -> None:
        """Deletes all records."""
        await self.delete(await self._scores.matching(None))

    async def drop(self) -> None:
        """Removes the collection, and then what is beside it."""
        await self._collection.drop()
        if self._sidecar is not None:
            self._sidecar.clear()
        self._known.schema = self._known.index = self._known.dense = self._known.generation = None

    async def close(self) -> None:
        """Closes everything."""
        self._collection.close()
        self._on_close()

    async def _metadata(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        async for page in self._collection.some(ids, ["metadatas"]):
            found.update((i, held or {}) for i, held in zip(page["ids"], page["metadatas"], strict=True))
        return found

    def _check_sidecar(self, modes: Sequence[Mode]) -> None:
        if "multivector" in modes and self._sidecar is None:
            raise InvalidInput(
                "a Chroma server cannot hold multi-vectors: say with sidecar= in which directory they shall be, or "
                "encode with modes=['dense', 'sparse']"
            )
