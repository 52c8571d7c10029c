"""The engine of Chroma: dense vectors in Chroma, sparse ones in its records' metadata, multi-vectors beside it."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np

from m3core import InvalidInput, M3Output, Mode, Record
from m3core.portions import by_portions
from m3stores.chroma.collection import ChromaCollection
from m3stores.chroma.derived import Derived, Known
from m3stores.chroma.filters import Where, chroma_where, needs_helpers
from m3stores.chroma.listing import Listings
from m3stores.chroma.marks import Marks
from m3stores.chroma.metadata import decode, encode
from m3stores.chroma.records import SPARSE, hash_of, packed, record_of, stored_metadata, unpacked
from m3stores.chroma.scores import Scores
from m3stores.chroma.sidecar import Sidecar
from m3stores.collection import Page, Schema
from m3stores.filters import Expression

_SCHEMA = "m3"  # the key in a collection's metadata
_BYTES = 8 << 20  # the most in one write


class ChromaEngine:
    """See `m3stores.engine.Engine`.

    Blocking: Chroma's async client shares its connections, headers included, between all servers of an event loop.
    """

    def __init__(
        self,
        collection: ChromaCollection,
        *,
        marks: Marks | None,
        sidecar: Sidecar | None,
        address: str | None,
        refresh: float,
    ) -> None:
        """For `ChromaStore`.

        Args:
            collection: the records.
            marks: of the writers to a server; `None` for a directory, which has one.
            sidecar: the multi-vectors, if there is a place for them.
            address: as `m3 index --store` takes it.
            refresh: seconds until others' writes are noticed.
        """
        self._collection = collection
        self._shared = marks is not None
        self._known = Known()
        self._sidecar = sidecar
        self._derived = Derived(collection, self._known, marks, refresh)
        self._scores = Scores(collection, self._derived, sidecar)
        self._listings = Listings()
        self.address = address

    async def schema(self, *, fresh: bool = False) -> Schema | None:
        """What the collection holds; of one made by others, dense vectors."""
        self._collection.check()
        if self._known.schema is None or (fresh and self._shared):
            schema = self._read_schema()
            if schema != self._known.schema:
                self._known.forget()  # others have made it anew, or given it more modes
                self._known.schema = schema
        return self._known.schema

    def _read_schema(self) -> Schema | None:
        metadata = self._collection.metadata()
        if metadata is None:
            return None
        if _SCHEMA in metadata:
            return Schema.from_json(json.loads(metadata[_SCHEMA]))
        first = self._collection.call("get", limit=1, include=["embeddings"])["embeddings"]
        if not len(first):
            return None  # as good as none: an upsert adopts it
        return Schema(("dense",), len(first[0]), None, None, foreign=True)

    async def create(self, schema: Schema) -> Schema:
        """Makes the collection."""
        self._check_sidecar(schema.modes)
        self._collection.check_room(0)
        with self._derived.turn():
            if (made := self._read_schema()) is None:
                self._collection.create({_SCHEMA: json.dumps(schema.as_json())})
                if (made := self._read_schema()) is None:  # an empty one of others
                    self._note(schema)
                    made = schema
                self._known.schema = made
                if self._collection.call("count") == 0:
                    self._derived.begin()
            self._known.schema = made
        return made

    async def extend(self, schema: Schema) -> None:
        """There is room for sparse vectors and multi-vectors always, and never for dense ones later."""
        held = await self.schema()
        if held is not None and held.dense_dim is None and schema.dense_dim is not None:
            raise InvalidInput("Chroma cannot add dense vectors to a collection made without: make a new one")
        self._check_sidecar(schema.modes)

    async def become(self, schema: Schema) -> None:
        """Notes the schema in the collection's metadata. Records of others get what filters need."""
        with self._derived.turn():
            held = self._read_schema()
            if held is not None and held.foreign:
                for page in self._collection.pages(include=["metadatas"]):
                    encoded = [encode(decode(held or {})) for held in page["metadatas"]]
                    self._collection.change("update", ids=page["ids"], metadatas=encoded)
            self._note(schema)

    def _note(self, schema: Schema) -> None:
        metadata = self._collection.metadata() or {}
        self._collection.call("modify", metadata={**metadata, _SCHEMA: json.dumps(schema.as_json())})
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
        for rows in by_portions(sizes, self._collection.at_a_time("upsert"), _BYTES):
            self._collection.check_room(sum(sizes[row] for row in rows))
            with self._derived.turn():
                self._write([records[row] for row in rows], output[rows], [hashes[row] for row in rows])

    def _write(self, records: Sequence[Record], output: M3Output, hashes: Sequence[str]) -> None:
        ids = [record.id for record in records]
        if self._sidecar is not None and output.multivector is not None:
            self._sidecar.put(ids, hashes, output.multivector)
        old = self._collection.metadatas(ids)
        metadatas = [
            stored_metadata(record, output, row, hashes[row], old.get(record.id, {}))
            for row, record in enumerate(records)
        ]
        self._collection.change(
            "upsert",
            ids=ids,
            embeddings=np.ones((len(ids), 1), dtype=np.float32) if output.dense is None else output.dense,
            documents=[record.text for record in records],
            metadatas=metadatas,
        )
        sparse = None if output.sparse is None else [unpacked(held[SPARSE]) for held in metadatas]
        self._derived.wrote(ids, hashes, sparse, output.dense)
        if self._sidecar is not None:
            new = dict(zip(ids, hashes, strict=True))
            self._sidecar.forget({i: was for i in old if (was := hash_of(old[i])) != new[i]})

    async def fill(self, ids: Sequence[str], output: M3Output, hashes: Mapping[str, str]) -> None:
        """Adds sparse vectors to the metadata, and multi-vectors beside it."""
        with self._derived.turn():
            now = await self.hashes(ids)
            here = [row for row, i in enumerate(ids) if now.get(i) == hashes[i]]
            kept, output = [ids[row] for row in here], output[here]
            written = self._derived.hashes(kept)
            contents = [written[i] for i in kept]
            if output.multivector is not None and self._sidecar is not None:
                self._sidecar.put(kept, contents, output.multivector)
            if output.sparse is not None and kept:
                sparse = [packed(vector) for vector in output.sparse]
                self._collection.change("update", ids=kept, metadatas=[{SPARSE: text} for text in sparse])
                self._derived.wrote(kept, contents, [unpacked(text) for text in sparse], None)

    async def lacking(self, ids: Sequence[str], modes: Sequence[Mode]) -> set[str]:
        """Reads metadata, and looks beside it."""
        held = self._collection.metadatas(ids)
        schema = await self.schema()
        lacking = {i for i in held if "sparse" in modes and SPARSE not in held[i]}
        if "dense" in modes and schema is not None and schema.dense_dim is None:
            lacking |= held.keys()
        if "multivector" in modes:
            hashes = self._derived.hashes(ids)
            lacking |= hashes.keys() - (self._sidecar.present(hashes) if self._sidecar is not None else set())
        return lacking

    async def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Empty where the multi-vectors are lost, so that an upsert of the same record brings them back."""
        hashes = self._derived.hashes(ids)
        schema = self._known.schema
        if schema is not None and "multivector" in schema.modes and self._sidecar is not None:
            present = self._sidecar.present(hashes)
            hashes = {i: content if i in present else "" for i, content in hashes.items()}
        return hashes

    async def contents(self) -> AsyncIterator[dict[str, str]]:
        """At once: this process knows them all."""
        yield await self.hashes(self._scores.matching(None))

    async def delete(self, ids: Sequence[str]) -> None:
        """Deletes the records, and then what is beside them."""
        wanted = list(dict.fromkeys(ids))
        if not self._shared:  # Chroma takes as long for what is not there
            held = self._derived.hashes(wanted)
            wanted = [i for i in wanted if i in held]
        most = self._collection.at_a_time("delete")
        for start in range(0, len(wanted), most):
            some = wanted[start : start + most]
            with self._derived.turn():
                self._collection.change("delete", ids=some)
                self._derived.removed(some)
                if self._sidecar is not None:
                    self._sidecar.remove(some)

    async def delete_matching(self, filter: Any) -> None:
        """Looks the ids up, and deletes them."""
        await self.delete(self._scores.matching(filter))

    async def read(self, ids: Sequence[str]) -> dict[str, Record]:
        """Texts and metadata."""
        found = {}
        for page in self._collection.some(list(dict.fromkeys(ids)), ["documents", "metadatas"]):
            for held in zip(page["ids"], page["documents"], page["metadatas"], strict=True):
                found[held[0]] = record_of(*held)
        return found

    async def page(self, filter: Any, start: str | None, size: int, modes: Sequence[Mode]) -> Page:
        """From a listing of all ids that was made for the first page: what is deleted meanwhile hides nothing."""
        listed = None if start is None else self._listings.next(start, size)
        if listed is None:  # the first page, or a place in another process's listing
            offset = 0 if start is None else self._listings.parts(start)[1]
            listed = self._listings.next(self._listings.add(self._scores.matching(filter), offset), size)
        assert listed is not None
        ids, following = listed
        include = ["documents", "metadatas", *(["embeddings"] if "dense" in modes else [])]
        held: dict[str, list[Any]] = {key: [] for key in ("ids", *include)}
        for page in self._collection.some(ids, include):
            for key in held:
                held[key] += list(page[key])
        rows = zip(held["ids"], held["documents"], held["metadatas"], strict=True)
        records = [record_of(*row) for row in rows]
        schema = await self.schema()
        output = self._scores.gathered(held, modes, schema) if modes and schema is not None else None
        return Page(records, output, following)

    async def vectors(self, ids: Sequence[str], mode: Mode) -> dict[str, Any]:
        """From where the mode is kept."""
        return dict(self._scores.vectors(ids, mode))

    async def count(self, filter: Any) -> int:
        """Exact."""
        if filter is None:
            return int(self._collection.call("count"))
        return len(self._scores.matching(filter))

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

    def within(self, filter: Any, ids: Sequence[str]) -> Where:
        """As one `Where`."""
        return (filter or Where()).within(ids)

    async def candidates(
        self, queries: M3Output, modes: Sequence[Mode], limit: int, filter: Any
    ) -> list[dict[Mode, dict[str, float]]]:
        """By mode: dense from Chroma, the others from what is derived and beside."""
        found: list[dict[Mode, dict[str, float]]] = [{} for _ in range(len(queries))]
        among = None if filter is None else self._scores.matching(filter)
        for mode in modes:
            for row, scored in enumerate(self._scores.best(queries, mode, limit, filter, among)):
                found[row][mode] = scored
        return found

    async def scores(
        self, queries: M3Output, wanted: Sequence[tuple[int, Mode, Sequence[str]]]
    ) -> list[dict[str, float]]:
        """Exact."""
        return [self._scores.of(queries, row, mode, ids) for row, mode, ids in wanted]

    async def clear(self) -> None:
        """Deletes all records."""
        await self.delete(self._scores.matching(None))

    async def drop(self) -> None:
        """Removes the collection, and then what is beside it."""
        with self._derived.turn():
            self._collection.drop()
            self._derived.dropped()
            if self._sidecar is not None:
                self._sidecar.clear()

    async def close(self) -> None:
        """Closes everything."""
        self._collection.close()

    def _check_sidecar(self, modes: Sequence[Mode]) -> None:
        if "multivector" in modes and self._sidecar is None:
            raise InvalidInput(
                "a Chroma server cannot hold multi-vectors: say with sidecar= in which directory they shall be, or "
                "encode with modes=['dense', 'sparse'] (m3 index --modes dense,sparse)"
            )
