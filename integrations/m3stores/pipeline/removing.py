"""Removing what a source no longer has."""

from collections.abc import Iterator, Sequence
from itertools import islice

from m3core import Record
from m3stores.pipeline.chunks import document_of
from m3stores.pipeline.documents import PASSAGE, passage_id
from m3stores.pipeline.job import Target
from m3stores.pipeline.seen import Seen
from m3stores.store import HybridStore

_PAGE = 1000
_MOST = 1_000_000  # ids in memory
_NEXT, _MORE = 2, 64  # passages that are looked for: one may be missing that could not be stored


def remove_former(target: Target, ends: Sequence[tuple[str, int]]) -> int:
    """Removes the passages that documents once had behind those that they have now.

    The last ones first, so that a run which is killed meanwhile leaves none that the next one does not find.

    Args:
        target: which had them.
        ends: ids of documents, and how many passages each has.

    Returns:
        How many there were.
    """
    former: list[str] = []
    room = _NEXT
    while ends:
        asked = [(document, number) for document, first in ends for number in range(first, first + room)]
        found = {record.id: record for record in target.get([passage_id(*each) for each in asked])}
        held = [each for each in asked if _is_passage(found.get(passage_id(*each)), *each)]
        former += [passage_id(*each) for each in held]
        longer = {document for document, _ in held}
        ends = [(document, first + room) for document, first in ends if document in longer]
        room = _MORE
    former.reverse()
    for first in range(0, len(former), _PAGE):
        target.delete(former[first : first + _PAGE])
    return len(former)


def remove_others(store: HybridStore, documents: Seen) -> int:
    """Removes the passages of all documents but these.

    Returns:
        How many there were.
    """
    removed = 0
    while others := list(islice(_others(store, documents), _MOST)):  # a collection is not changed while it is read
        for first in range(0, len(others), _PAGE):
            store.delete(others[first : first + _PAGE])
        removed += len(others)
    return removed


def _others(store: HybridStore, documents: Seen) -> Iterator[str]:
    for page in store.scroll(size=_PAGE):
        lacking = set(documents.lacks([document_of(record) for record in page.records]))
        yield from (record.id for record in page.records if document_of(record) in lacking)


def _is_passage(record: Record | None, document: str, number: int) -> bool:
    """Whether a record is a document's passage of this number, and not a document that somebody gave such an id."""
    return record is not None and document_of(record) == document and record.metadata.get(PASSAGE, 0) == number
