"""Removing what a source no longer has."""

from collections.abc import Sequence

from m3core import Record
from m3stores.pipeline.chunks import PASSAGE, document_of, passage_id
from m3stores.pipeline.job import Target
from m3stores.pipeline.seen import Seen
from m3stores.store import HybridStore

_PAGE = 1000


def remove_former(target: Target, ends: Sequence[tuple[str, int]]) -> int:
    """Removes the passages that documents once had behind those that they have now.

    Args:
        target: which had them.
        ends: ids of documents, and how many passages each has.

    Returns:
        How many there were.
    """
    ends, removed = list(ends), 0
    while ends:
        found = {record.id: record for record in target.get([passage_id(*end) for end in ends])}
        ends = [end for end in ends if _is_passage(found.get(passage_id(*end)), end[1])]
        if ends:
            target.delete([passage_id(*end) for end in ends])
            removed += len(ends)
        ends = [(document, number + 1) for document, number in ends]
    return removed


def remove_others(store: HybridStore, documents: Seen) -> int:
    """Removes the passages of all documents but these.

    Returns:
        How many there were.
    """
    others: list[str] = []
    for page in store.scroll(size=_PAGE):
        lacking = set(documents.lacks([document_of(record) for record in page.records]))
        others += [record.id for record in page.records if document_of(record) in lacking]
    for first in range(0, len(others), _PAGE):
        store.delete(others[first : first + _PAGE])
    return len(others)


def _is_passage(record: Record | None, number: int) -> bool:
    """Whether a record is a document's passage of this number, and no other that somebody gave such an id."""
    return record is not None and record.metadata.get(PASSAGE, 0) == number
