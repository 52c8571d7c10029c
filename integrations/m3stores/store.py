"""`HybridStore`: the one contract of all stores. What a store does, over whatever engine keeps the points."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from m3core import Fingerprint, Fusion, InvalidInput, M3Output, Mode, Record, SparseVector, StoreError
from m3core.output import FloatArray
from m3stores.arguments import checked_modes
from m3stores.collection import Comparison, Hit, Page, Schema
from m3stores.engine import Engine, finished
from m3stores.growing import Encode, Growing
from m3stores.keys import Keys
from m3stores.operations import Operations, legs
from m3stores.twins import AsyncTwins


class HybridStore(AsyncTwins):
    """A collection of records with dense, sparse and multi-vector representations, searched by all of them at once.

    Made by its subclasses, `QdrantStore` and `ChromaStore`. Knows no encoder: it learns from the `M3Output`s that it is
    given. The first one that it stores decides which modes the collection has, and which encoder's vectors it takes.

    Every operation has an async twin with the same arguments, `asearch` for `search`, which leaves the event loop free:
    by an async client for a Qdrant server, and in a thread elsewhere.

    May be shared by threads. Usable as a context manager, which closes it.

    Attributes:
        collection: its name.
    """

    def __init__(
        self, collection: str, engine: Engine, *, adopt: bool, async_engine: Callable[[], Engine] | None = None
    ) -> None:
        """For subclasses.

        Args:
            collection: its name.
            engine: a blocking one.
            adopt: whether to write to a collection that another program made.
            async_engine: makes one for an event loop, if there is such an engine.
        """
        self.collection = collection
        self._engine = engine
        self._opening: dict[str, Any] | None = None
        self._operations = Operations(collection, engine, adopt)
        super().__init__(None if async_engine is None else lambda: Operations(collection, async_engine(), adopt))

    def __repr__(self) -> str:
        """The collection's name and place."""
        return f"{type(self).__name__}({self.collection!r}, {self._engine.address or 'temporary'})"

    def __reduce__(self) -> tuple[Any, ...]:
        """A collection on a server can be pickled; the copy opens it anew."""
        if self._opening is None:
            raise StoreError("an embedded collection is open in one process at a time: it cannot be sent to another")
        return partial(type(self), self.collection, **self._opening), ()

    @property
    def remote(self) -> bool:
        """Whether the collection is on a server, so that other processes can have it open too."""
        return self._opening is not None

    @property
    def schema(self) -> Schema | None:
        """What the collection holds; `None` before the first `upsert`."""
        return finished(self._engine.schema())

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that every record has; empty before the first `upsert`."""
        schema = self.schema
        return schema.modes if schema else ()

    def upsert(self, records: Sequence[Record], output: M3Output) -> list[str]:
        """Stores records with their representations, in place of any with the same ids.

        All is checked before anything is written. When the call returns, the records are there for good; if the process
        dies on the way, some of them are, each whole. A record that is there already, with the same text, metadata and
        representations, is not written again.

        Args:
            records: with distinct ids, any strings.
            output: what an encoder made of their texts, in the same order. Raw vectors go into an `M3Output` of one's
                own.

        Returns:
            The ids of the records that were written.

        Raises:
            InvalidInput: a record or a vector that cannot be stored, named.
            CollectionMismatch: the vectors come from another encoder than the collection's, or have other modes; or
                another program made the collection, and it was not opened with `adopt=True`.
            StoreError: the store is closed, or its engine failed.
        """
        return finished(self._operations.upsert(records, output))

    def compare(self, records: Sequence[Record]) -> Comparison:
        """Which of some records are not there yet with the same text and metadata, and so need be encoded.

        Args:
            records: with distinct ids.

        Raises:
            InvalidInput: a record that cannot be stored, named.
        """
        return finished(self._operations.compare(records))

    def keys(self) -> Keys:
        """Which records there are, with which texts and metadata: what `compare` knows, in 16 bytes a record."""
        return finished(self._operations.keys())

    def delete(self, ids: Sequence[str] | None = None, *, filter: object = None) -> None:
        """Removes records by id or by filter. Ids that are not there do not matter.

        Args:
            ids: which ones.
            filter: as in `search`, in place of `ids`.

        Raises:
            InvalidInput: neither or both were given, or an unusable filter.
        """
        finished(self._operations.delete(ids, filter=filter))

    def get(self, ids: Sequence[str]) -> list[Record]:
        """The records of these ids, in this order; ids that are not there are passed over."""
        return finished(self._operations.get(ids))

    def vectors(self, ids: Sequence[str], mode: Mode) -> dict[str, FloatArray | SparseVector]:
        """The representations of these records by one mode, by id; ids that are not there are passed over.

        Returns:
            Dense vectors `(d,)`, sparse vectors, or multi-vectors `(t, d)`, in the order of the ids.

        Raises:
            UnsupportedMode: the collection does not have the mode.
        """
        return finished(self._operations.vectors(ids, mode))

    def count(self, filter: object = None) -> int:
        """How many records there are, or how many a filter matches (as in `search`). Exact."""
        return finished(self._operations.count(filter))

    def page(
        self, *, filter: object = None, start: str | None = None, size: int = 256, with_vectors: bool = False
    ) -> Page:
        """Some records, from a place on. `scroll` turns the pages; this is for one who has to stop and go on later.

        Args:
            filter: as in `search`.
            start: `next` of the page before; `None` is the beginning.
            size: the most records.
            with_vectors: whether their representations come along.

        Raises:
            InvalidInput: an argument that cannot be used.
        """
        return finished(self._operations.page(filter=filter, start=start, size=size, with_vectors=with_vectors))

    def scroll(self, *, filter: object = None, size: int = 256, with_vectors: bool = False) -> Iterator[Page]:
        """All records that a filter matches, page by page, in no particular order. Arguments as of `page`."""
        start: str | None = None
        while True:
            page = self.page(filter=filter, start=start, size=size, with_vectors=with_vectors)
            if page.records:
                yield page
            if page.next is None:
                return
            start = page.next

    def search(
        self,
        queries: M3Output,
        *,
        k: int = 10,
        modes: Sequence[Mode] | None = None,
        candidates: int | None = None,
        fusion: Fusion | None = None,
        rerank: bool = False,
        filter: object = None,
        ids: Sequence[str] | None = None,
        score_threshold: float | None = None,
        mmr: float | None = None,
    ) -> list[list[Hit]]:
        """The best records for each query.

        Each mode proposes its best `candidates`; all of them are scored by every mode, and the scores are fused. Where
        `candidates` covers the collection, this is the ranking of `M3Output.score` over all records.

        Args:
            queries: from the encoder that made the collection.
            k: the most hits for each query.
            modes: which ones propose candidates and score; `None` means dense and sparse, as far as there are.
            candidates: from each mode; `None` means 5·k, but at least 50.
            fusion: `WeightedSum`, `RRF` or `DBSF`; `None` means the weighted sum with the model's own weights.
            rerank: whether multi-vectors score the candidates too.
            filter: a dict as `m3stores.filters` describes it, or a filter of the store's own.
            ids: only these records, of those that the filter matches; ids that are not there do not matter.
            score_threshold: the least fused score of a hit.
            mmr: λ of maximal marginal relevance, by which the hits are chosen from the candidates and ordered: 1 goes
                by score alone, 0 only by how a record's dense vector differs from those before. Relevance is the fused
                score as a share of what the query's own text would get, or by RRF a record that each mode ranks first.

        Returns:
            For each query its hits, best first; equal scores in the order of ids. Empty in an empty collection.

        Raises:
            InvalidInput: an argument that cannot be used.
            UnsupportedMode: a mode that the collection or the queries do not have.
            CollectionMismatch: the queries come from another encoder.
        """
        return finished(
            self._operations.search(
                queries,
                k=k,
                modes=modes,
                candidates=candidates,
                fusion=fusion,
                rerank=rerank,
                filter=filter,
                ids=ids,
                score_threshold=score_threshold,
                mmr=mmr,
            )
        )

    def check_encoder(self, fingerprint: Fingerprint) -> None:
        """Refuses an encoder that the collection was not made by.

        Raises:
            CollectionMismatch: says what differs, and what to do.
        """
        if (schema := self.schema) is not None:
            schema.check_fingerprint(fingerprint, self.collection, self._engine.address)

    def legs(self, modes: Sequence[Mode] | None) -> tuple[Mode, ...]:
        """The modes that propose candidates in a search with this argument.

        Raises:
            InvalidInput: no list of modes.
        """
        return legs(modes, self.schema)

    def add_modes(self, modes: Sequence[Mode], encode: Encode, *, show_progress: bool = False) -> None:
        """Adds representations that the records do not have yet, such as sparse ones to a dense collection.

        Until all records have them, the collection is searched as before. If it is interrupted, the next call goes on.

        ```python
        store.add_modes(["sparse"], lambda records: encoder.encode_documents([r.text for r in records]))
        ```

        Args:
            modes: to be had; those that are there already are passed over.
            encode: makes the representations of some records; by the encoder that made the collection.
            show_progress: whether to show a progress bar.

        Raises:
            InvalidInput: the collection has no records.
            UnsupportedMode: `encode` returned no such representations.
            CollectionMismatch: they come from another encoder; or another program made the collection, and it was not
                opened with `adopt=True`.
        """
        wanted = checked_modes(modes)
        schema = self.schema
        if schema is None:
            raise InvalidInput(f"collection {self.collection!r} does not exist: its first upsert decides its modes")
        self._operations.check_ours(schema)
        new = tuple(mode for mode in wanted if mode not in schema.modes)
        if new:
            finished(Growing(self._engine, self.collection, schema, new, encode, show_progress).run())

    def clear(self) -> None:
        """Removes all records. The collection stays, with its modes and settings."""
        finished(self._operations.clear())

    def drop(self) -> None:
        """Removes the collection. The next `upsert` makes a new one."""
        finished(self._operations.drop())

    def close(self) -> None:
        """Closes the store; a temporary collection is removed. May be called twice."""
        self._closed = True
        finished(self._engine.close())

    def __enter__(self) -> Self:
        """Nothing to do: a store is open from the start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the store."""
        self.close()
