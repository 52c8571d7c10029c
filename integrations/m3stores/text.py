"""`TextIndex`: an encoder and a store together. Texts in, hits out; what every adapter stands on."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any

from m3core import CollectionMismatch, Fingerprint, InvalidInput, M3Encoder, M3Output, Mode, Record
from m3stores.checks import checked_records
from m3stores.collection import Hit
from m3stores.engine import gently
from m3stores.store import HybridStore

_WINDOW, _ROWS = 1024, 2**18
_NO_TEXT: Any = object()


@dataclass(frozen=True)
class TextIndex:
    """Indexes and searches texts: one forward pass for each text and each query, whatever the modes.

    Attributes:
        encoder: of the collection, if that has records already.
        store: where they are kept.

    Raises:
        CollectionMismatch: another encoder made the collection.
    """

    encoder: M3Encoder
    store: HybridStore

    def __post_init__(self) -> None:
        self.store.check_encoder(self.encoder.fingerprint)

    def add(
        self,
        records: Iterable[Record],
        *,
        texts: Iterable[str] | None = None,
        modes: Sequence[Mode] | None = None,
        total: int | None = None,
        show_progress: bool = False,
    ) -> list[str]:
        """Encodes and stores records, in portions; those before an error stay.

        Args:
            records: any number of them; a generator is read as they are stored.
            texts: what to encode for each record, in place of its own text.
            modes: what a new collection keeps; `None` means all that the model has. An old one keeps what it has.
            total: how many records there will be, for the progress bar; `None` takes their `len`, if they have one.
            show_progress: whether to show a progress bar.

        Returns:
            The ids.

        Raises:
            InvalidInput: a record that cannot be stored; it has not been encoded.
            UnsupportedMode: the model does not have one of the modes.
            CollectionMismatch: the collection has other modes than `modes`.
        """
        ids: list[str] = []
        for portion, output in self._encoded(
            records, texts=texts, modes=modes, total=total, show_progress=show_progress
        ):
            self.store.upsert(portion, output)
            ids += [record.id for record in portion]
        return ids

    async def aadd(self, records: Iterable[Record], **options: Any) -> list[str]:
        """`add` without blocking the event loop. Threads read the records, by turns, and encode and store them."""
        ids: list[str] = []
        portions = self._encoded(records, **options)
        while (encoded := await asyncio.to_thread(next, portions, None)) is not None:
            portion, output = encoded
            # not aupsert: an async client would pack in the event loop
            await asyncio.to_thread(gently, partial(self.store.upsert, portion, output))
            ids += [record.id for record in portion]
        return ids

    def _encoded(
        self,
        records: Iterable[Record],
        *,
        texts: Iterable[str] | None = None,
        modes: Sequence[Mode] | None = None,
        total: int | None = None,
        show_progress: bool = False,
    ) -> Iterator[tuple[list[Record], M3Output]]:
        """Portions of the records, with what they are to be stored with. See `add`."""
        wanted = self.modes(modes)
        waiting: deque[Record] = deque()
        outputs = self.encoder.iter_encode(
            self._checked(records, texts, waiting),
            modes=wanted,
            show_progress=show_progress,
            total=len(records) if total is None and isinstance(records, Sized) else total,
            window=window(self.encoder.fingerprint, wanted),
        )
        for output in outputs:
            yield [waiting.popleft() for _ in range(len(output))], output

    def _checked(self, records: Iterable[Record], texts: Iterable[str] | None, waiting: deque[Record]) -> Iterator[str]:
        """What to encode for each record. All that can be wrong with a record shows before it is encoded."""
        seen: set[str] = set()
        others = None if texts is None else iter(texts)
        for record in records:
            (checked,) = checked_records([record], seen)
            text = checked.text if others is None else next(others, _NO_TEXT)
            if text is _NO_TEXT:
                break
            waiting.append(checked)
            yield text
        else:
            if others is None or next(others, _NO_TEXT) is _NO_TEXT:
                return
        raise InvalidInput("there must be as many texts as records")

    def modes(self, wanted: Sequence[Mode] | None) -> Sequence[Mode]:
        """What records are encoded to: what is wanted, or else what the collection keeps, or all that the model has.

        Raises:
            CollectionMismatch: the collection keeps others than those wanted.
        """
        kept = self.store.modes
        if wanted is not None and kept and set(wanted) != set(kept):
            raise CollectionMismatch(
                f"collection {self.store.collection!r} keeps {', '.join(kept)}, and cannot be given other modes"
            )
        return wanted if wanted is not None else kept or self.encoder.modes

    def search(self, queries: Sequence[str], *, rerank: bool | None = None, **options: Any) -> list[list[Hit]]:
        """The best records for each query.

        Args:
            queries: texts.
            rerank: whether multi-vectors score the candidates; `None` means where the collection has them.
            options: of `HybridStore.search`: `k`, `modes`, `candidates`, `fusion`, `filter`, `ids`, `score_threshold`,
                `mmr`.

        Returns:
            For each query its hits, best first. With the default options that is the ranking of `M3Output.score`.

        Raises:
            InvalidInput: an argument that cannot be used.
            UnsupportedMode: a mode that the collection does not have.
        """
        return self.find(queries, rerank=rerank, **options)[1]

    async def asearch(self, queries: Sequence[str], *, rerank: bool | None = None, **options: Any) -> list[list[Hit]]:
        """`search` without blocking the event loop."""
        return (await self.afind(queries, rerank=rerank, **options))[1]

    def find(
        self, queries: Sequence[str], *, rerank: bool | None = None, **options: Any
    ) -> tuple[M3Output, list[list[Hit]]]:
        """What `search` does; returns the queries' representations with the hits."""
        encoded, rerank = self.encode(queries, rerank=rerank, modes=options.get("modes"))
        return encoded, self.store.search(encoded, rerank=rerank, **options)

    async def afind(
        self, queries: Sequence[str], *, rerank: bool | None = None, **options: Any
    ) -> tuple[M3Output, list[list[Hit]]]:
        """`find` without blocking the event loop."""
        encoded, rerank = await self.aencode(queries, rerank=rerank, modes=options.get("modes"))
        return encoded, await self.store.asearch(encoded, rerank=rerank, **options)

    def encode(
        self, queries: Sequence[str], *, rerank: bool | None = None, modes: Sequence[Mode] | None = None
    ) -> tuple[M3Output, bool]:
        """What a search with these arguments needs: the queries' representations, and whether it reranks.

        Raises:
            InvalidInput: not a list of texts, or of modes.
            UnsupportedMode: a mode that the model does not have.
        """
        reranked, wanted = self._plan(rerank, modes)
        return self.encoder.encode_queries(queries, modes=wanted), reranked

    async def aencode(
        self, queries: Sequence[str], *, rerank: bool | None = None, modes: Sequence[Mode] | None = None
    ) -> tuple[M3Output, bool]:
        """`encode` without blocking the event loop."""
        reranked, wanted = await asyncio.to_thread(self._plan, rerank, modes)  # a server may be asked
        return await self.encoder.aencode_queries(queries, modes=wanted), reranked

    def _plan(self, rerank: bool | None, modes: Sequence[Mode] | None) -> tuple[bool, tuple[Mode, ...] | None]:
        """Whether to rerank, and which modes the queries need."""
        legs = self.store.legs(modes)
        if rerank is None:
            rerank = modes is None and "multivector" in self.store.modes
        return rerank, (*legs, "multivector") if rerank and "multivector" not in legs else legs or None


def window(fingerprint: Fingerprint | None, modes: Sequence[Mode]) -> int:
    """How many records are encoded before they are stored: fewer where multi-vectors are wide, to save memory."""
    width = None if fingerprint is None else fingerprint.multivector_dim
    return _WINDOW if width is None or "multivector" not in modes else max(64, min(_WINDOW, _ROWS // width))
