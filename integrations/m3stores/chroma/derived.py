"""The indexes of ours of a Chroma collection: derived from its records, and kept up with them."""

import time
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from m3core import SparseVector, StoreWarning
from m3core.output import FloatArray
from m3stores.chroma.collection import ChromaCollection
from m3stores.chroma.exact import DenseIndex
from m3stores.chroma.lexical import LexicalIndex
from m3stores.chroma.records import SPARSE, hash_of, unpacked
from m3stores.collection import Schema
from m3stores.engine import Turns

GENERATION = "m3_generation"
"""The key in a collection's metadata that every write changes, so that others notice."""

_MANY = 500_000
_FEW = 5000  # 20 MB of vectors 1024 wide
_NOTHING = SparseVector([], [])  # type: ignore[arg-type]


@dataclass
class Known:
    """What the engines of one store know of its collection."""

    schema: Schema | None = None
    index: LexicalIndex | None = None
    dense: DenseIndex | None = None
    generation: str | None = None
    checked: float = 0.0
    builders: dict[int, set[str]] = field(default_factory=dict)
    warned: bool = False


class Derived:
    """Reads the collection through once, when an index is first needed; own writes go into both.

    While a collection has few records there is an exact index of dense vectors too: Chroma's own is approximate, and
    after the collection was opened again it now and then has a record that no search reaches.

    What other programs write is noticed by the collection's generation, which our own stores change with each write,
    and by its count. Then everything is read anew.
    """

    def __init__(self, collection: ChromaCollection, known: Known, turns: Turns, refresh: float) -> None:
        """For an engine.

        Args:
            collection: the records.
            known: what the engines of a store know in common.
            turns: of the engine; who writes has one.
            refresh: how many seconds may pass before others' writes are noticed.
        """
        self._collection = collection
        self._known = known
        self._turns = turns
        self._refresh = refresh

    async def index(self) -> LexicalIndex:
        """The index, as new as `refresh` asks. Takes a turn if there is something to do."""
        index = self._known.index
        if index is not None and not self._is_old():
            return index
        async with self._turns:
            if self._is_old():
                await self._look()
            index = self._known.index
            if index is None:
                index, dense = await self._built()
                self._known.index, self._known.dense = index, dense
                self._warn(len(index))
            return index

    async def exact(self) -> DenseIndex | None:
        """The exact index of dense vectors, of a collection that is small enough."""
        if self._known.index is None and await self._collection.call("count") > _FEW:
            return None
        await self.index()
        return self._known.dense

    def _is_old(self) -> bool:
        return time.monotonic() - self._known.checked >= self._refresh

    async def _look(self) -> None:
        """Looks whether others have written."""
        known = self._known
        index, generation = known.index, (await self._collection.metadata()).get(GENERATION)
        if index is not None and (generation != known.generation or await self._collection.call("count") != len(index)):
            known.index = None
        known.generation, known.checked = generation, time.monotonic()

    async def begin(self) -> None:
        """Of a collection that has just been made: it has no records."""
        self._known.index, self._known.dense = LexicalIndex(), await self._new_dense()

    async def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """The hashes of these records, as far as they are there. Takes no turn, and may be had within one."""
        index = self._known.index
        if index is not None and not self._is_old():
            return index.hashes(ids)
        found: dict[str, str] = {}
        async for page in self._collection.some(ids, ["metadatas"]):
            found.update(zip(page["ids"], map(hash_of, page["metadatas"]), strict=True))
        return found

    async def wrote(
        self,
        ids: Sequence[str],
        hashes: Sequence[str],
        sparse: Sequence[SparseVector] | None,
        dense: FloatArray | None,
    ) -> None:
        """After a write of records with these hashes and representations; without `dense`, those stay."""
        self._touch(ids)
        if (index := self._known.index) is not None:
            index.put(ids, sparse if sparse is not None else [_NOTHING] * len(ids), hashes)
            self._warn(len(index))
        if (exact := self._known.dense) is not None and dense is not None:
            exact.put(ids, dense)
            if len(exact) > _FEW:
                self._known.dense = None
        await self._renew()

    async def removed(self, ids: Sequence[str]) -> None:
        """After a deletion."""
        self._touch(ids)
        if (index := self._known.index) is not None:
            index.remove(ids)
        if (exact := self._known.dense) is not None:
            exact.remove(ids)
        await self._renew()

    async def _renew(self) -> None:
        """Lets others know."""
        metadata = await self._collection.metadata()
        if metadata.get(GENERATION) != self._known.generation:
            self._known.index = None
        self._known.generation = metadata[GENERATION] = uuid.uuid4().hex
        await self._collection.call("modify", metadata=metadata)

    async def _new_dense(self) -> DenseIndex | None:
        schema = self._known.schema
        if schema is None or schema.dense_dim is None or await self._collection.space() != "ip":
            return None
        return DenseIndex(schema.dense_dim)

    async def _built(self) -> tuple[LexicalIndex, DenseIndex | None]:
        index, touched = LexicalIndex(), set[str]()
        dense = await self._new_dense() if await self._collection.call("count") <= _FEW else None
        include = ["metadatas"] if dense is None else ["metadatas", "embeddings"]
        self._known.builders[id(touched)] = touched
        try:
            async for page in self._collection.pages(include=include):
                _put(index, dense, page)
            while touched:  # written meanwhile
                ids = list(touched)
                touched.clear()
                index.remove(ids)
                if dense is not None:
                    dense.remove(ids)
                async for page in self._collection.some(ids, include):
                    _put(index, dense, page)
        finally:
            del self._known.builders[id(touched)]
        return index, dense

    def _touch(self, ids: Sequence[str]) -> None:
        for touched in list(self._known.builders.values()):
            touched.update(ids)

    def _warn(self, count: int) -> None:
        if count >= _MANY and not self._known.warned:
            self._known.warned = True
            warnings.warn(
                f"this Chroma collection has {count} records, whose sparse vectors are all in this process's memory: "
                "QdrantStore serves so many better; m3stores.migrate moves them there",
                StoreWarning,
                stacklevel=2,
            )


def _put(index: LexicalIndex, dense: DenseIndex | None, page: Any) -> None:
    vectors = [unpacked(held[SPARSE]) if held and SPARSE in held else _NOTHING for held in page["metadatas"]]
    index.put(page["ids"], vectors, list(map(hash_of, page["metadatas"])))
    if dense is not None and page["ids"]:
        dense.put(page["ids"], np.asarray(page["embeddings"], dtype=np.float32))
