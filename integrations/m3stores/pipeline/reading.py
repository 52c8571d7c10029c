"""The reading side: from documents to the passages that are to be encoded."""

from collections.abc import Iterator
from dataclasses import dataclass

from m3core import InvalidInput, Record
from m3core.checks import check_text
from m3stores.checks import checked_records
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.documents import Document, Reject, is_passage_id
from m3stores.pipeline.job import Target
from m3stores.pipeline.rejects import Rejects
from m3stores.pipeline.removing import remove_former
from m3stores.pipeline.seen import Seen
from m3stores.pipeline.sources import Documents
from m3stores.pipeline.summary import Summary

_COMPARED = 256  # passages at once


class Reading:
    """Passages that the target does not have yet, or has otherwise. Used by one thread at a time."""

    def __init__(
        self,
        documents: Iterator[Document | Reject],
        chunker: Chunker,
        target: Target,
        summary: Summary,
        rejects: Rejects,
    ) -> None:
        """Reads nothing yet.

        Args:
            documents: `sound` ones.
            chunker: splits them.
            target: what they are for.
            summary: what is found is counted there.
            rejects: takes what cannot be used.
        """
        self._documents, self._chunker, self._target = documents, chunker, target
        self._summary, self._rejects = summary, rejects

    def passages(self) -> Iterator[list[Record]]:
        """Those that are new or changed, in lists of any length. Removes what their documents no longer have."""
        block: list[Record] = []
        ends: list[tuple[str, int]] = []
        for item in self._documents:
            found = passages_of(item, self._chunker)
            if isinstance(found, Reject):
                self._rejects.add(found)
                continue
            self._summary.documents += 1
            block += found.passages
            ends.append((found.document, len(found.passages)))
            if len(block) >= _COMPARED or len(ends) >= _COMPARED:
                yield self._compared(block, ends)
                block, ends = [], []
        yield self._compared(block, ends)

    def _compared(self, passages: list[Record], ends: list[tuple[str, int]]) -> list[Record]:
        changed: list[Record] = []
        new = kept = 0
        try:
            comparison = self._target.compare(passages)
            changed, new, kept = comparison.differing, comparison.new, len(passages)
        except InvalidInput:  # one of them is nothing for this store
            for passage in passages:
                try:
                    comparison = self._target.compare([passage])
                    changed, new, kept = changed + comparison.differing, new + comparison.new, kept + 1
                except InvalidInput as error:
                    self._rejects.add(Reject(passage.id, str(error)))
        self._summary.passages += kept
        self._summary.unchanged += kept - len(changed)
        self._summary.added += new
        self._summary.removed += remove_former(self._target, ends)
        return changed


@dataclass(frozen=True)
class Split:
    """A document's passages.

    Attributes:
        document: its id.
        passages: in their order.
    """

    document: str
    passages: list[Record]


def sound(documents: Documents, seen: Seen) -> Iterator[Document | Reject]:
    """Documents that can be split, and what cannot be used in its place.

    Args:
        documents: the source.
        seen: takes their ids.
    """
    for item in documents:
        try:
            if isinstance(item, Document):
                check_text(item.id, f"{item.where}: the id")
                if item.named and is_passage_id(item.id):
                    raise InvalidInput(f"{item.where}: ids that end as {item.id!r} does are of passages; rename it")
                if not seen.add(item.id):
                    raise InvalidInput(f"{item.where}: the id {item.id!r} was there before; ids must be distinct")
                check_text(item.text, item.where)  # a splitter takes nothing else
            yield item
        except InvalidInput as error:
            yield Reject(item.where, str(error))


def passages_of(item: Document | Reject, chunker: Chunker) -> Split | Reject:
    """A document's passages, or why they cannot be stored."""
    if isinstance(item, Reject):
        return item
    try:
        return Split(item.id, checked_records(chunker(item)))
    except InvalidInput as error:
        return Reject(item.where, str(error))
