"""The indexes of ours of a Chroma collection: derived from its records, and kept up with them."""

import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from m3core import SparseVector, StoreWarning
from m3core.output import FloatArray
from m3stores.chroma.collection import ChromaCollection
from m3stores.chroma.exact import DenseIndex
from m3stores.chroma.lexical import LexicalIndex
from m3stores.chroma.marks import Marks
from m3stores.chroma.records import SPARSE, hash_of, unpacked
from m3stores.collection import Schema

_MANY = 500_000
_FEW = 5000  # 20 MB of vectors 1024 wide
_NOTHING = SparseVector(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))


@dataclass
class Known:
    """What a store knows of its collection. Forgotten when somebody else removes that.

    Attributes:
        schema: what it holds.
        index: of the sparse vectors, and the hashes.
        dense: an exact index of the dense vectors, if they are few.
        marks: what other writers had left when the indexes were made.
        checked: when that was last compared.
    """

    schema: Schema | None = None
    index: LexicalIndex | None = None
    dense: DenseIndex | None = None
    marks: dict[str, str] = field(default_factory=dict)
    checked: float = 0.0

    def forget(self) -> None:
        """Nothing is known any more."""
        self.schema = self.index = self.dense = None


class Derived:
    """Reads the collection through once, when an index is first needed; own writes go into both.

    While a collection has few records there is an exact index of dense vectors too: Chroma's own is approximate, and
    after the collection was opened again it now and then has a record that no search reaches.

    What other programs write is noticed by the marks that our own stores leave on a server, and by the count. Then
    everything is read anew.
    """

    def __init__(self, collection: ChromaCollection, known: Known, marks: Marks | None, refresh: float) -> None:
        """For an engine.

        Args:
            collection: the records.
            known: what the engine knows.
            marks: of the writers to a server; `None` where there is no other.
            refresh: how many seconds may pass before others' writes are noticed.
        """
        self._collection = collection
        self._known = known
        self._marks = marks
        self._refresh = refresh
        self._warned = False
        self._turn = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One writer, or maker of an index, at a time. If it fails on the way, the indexes are made anew."""
        with self._turn:
            try:
                yield
            except BaseException:
                self._known.index = self._known.dense = None
                raise

    def index(self) -> LexicalIndex:
        """The index, as new as `refresh` asks. Takes a turn if there is something to do."""
        index = self._known.index
        if index is not None and not self._is_old():
            return index
        with self.turn():
            if self._is_old():
                self._look()
            index = self._known.index
            return self._built() if index is None else index

    def exact(self) -> DenseIndex | None:
        """The exact index of dense vectors, of a collection that is small enough."""
        if self._known.index is None and self._collection.call("count") > _FEW:
            return None
        self.index()
        return self._known.dense

    def begin(self) -> None:
        """Of a collection that has just been made: it has no records."""
        self._known.index, self._known.dense = LexicalIndex(), self._new_dense()

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """The hashes of these records, as far as they are there. On a server they are read: others may have written."""
        if self._marks is None and (index := self._known.index) is not None:
            return index.hashes(ids)
        return {i: hash_of(held) for i, held in self._collection.metadatas(ids).items()}

    def wrote(
        self,
        ids: Sequence[str],
        hashes: Sequence[str],
        sparse: Sequence[SparseVector] | None,
        dense: FloatArray | None,
    ) -> None:
        """After a write of records with these hashes and representations; without `dense`, those stay."""
        if (index := self._known.index) is not None:
            index.put(ids, sparse if sparse is not None else [_NOTHING] * len(ids), hashes)
            self._warn(len(index))
        if (exact := self._known.dense) is not None and dense is not None:
            exact.put(ids, dense)
            if len(exact) > _FEW:
                self._known.dense = None
        if self._marks is not None:
            self._marks.leave()

    def removed(self, ids: Sequence[str]) -> None:
        """After a deletion."""
        if (index := self._known.index) is not None:
            index.remove(ids)
        if (exact := self._known.dense) is not None:
            exact.remove(ids)
        if self._marks is not None:
            self._marks.leave()

    def dropped(self) -> None:
        """After the collection was removed."""
        self._known.forget()
        if self._marks is not None:
            self._marks.drop()

    def _is_old(self) -> bool:
        return time.monotonic() - self._known.checked >= self._refresh

    def _look(self) -> None:
        """Looks whether others have written."""
        known, marks = self._known, self._marks.others() if self._marks is not None else {}
        if known.index is not None and (marks != known.marks or self._collection.call("count") != len(known.index)):
            known.index = known.dense = None
        known.marks, known.checked = marks, time.monotonic()

    def _new_dense(self) -> DenseIndex | None:
        schema = self._known.schema
        if schema is None or schema.dense_dim is None or self._collection.space() != "ip":
            return None
        return DenseIndex(schema.dense_dim)

    def _built(self) -> LexicalIndex:
        index = LexicalIndex()
        dense = self._new_dense() if self._collection.call("count") <= _FEW else None
        for page in self._collection.pages(include=["metadatas"] if dense is None else ["metadatas", "embeddings"]):
            _put(index, dense, page)
        self._known.index, self._known.dense = index, dense
        self._warn(len(index))
        return index

    def _warn(self, count: int) -> None:
        if count >= _MANY and not self._warned:
            self._warned = True
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
