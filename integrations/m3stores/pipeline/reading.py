"""The reading side: from documents to the passages that are to be encoded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from m3core import InvalidInput, Record
from m3core.tokenizer import check_text
from m3stores.checks import checked_records
from m3stores.pipeline.chunks import PASSAGE, Chunker, passage_id
from m3stores.pipeline.documents import Document, Reject
from m3stores.pipeline.seen import Seen
from m3stores.pipeline.sources import Documents
from m3stores.pipeline.summary import Summary
from m3stores.store import HybridStore

_COMPARED = 256  # passages at once
_PAGE = 1000


class Reading:
    """Passages that the collection does not have yet, or has otherwise. Used by one thread at a time."""

    def __init__(
        self,
        documents: Documents,
        chunker: Chunker,
        store: HybridStore,
        summary: Summary,
        *,
        sync: bool,
        rejects: Path | None,
    ) -> None:
        """Reads nothing yet.

        Args:
            documents: the source.
            chunker: splits them.
            store: the collection.
            summary: what is found is counted there.
            sync: whether `remove_others` will be called.
            rejects: the file for what cannot be used.
        """
        self._documents, self._chunker, self._store, self._summary = documents, chunker, store, summary
        self._sync, self._rejects = sync, rejects
        self._file: TextIO | None = None
        self._seen = Seen()

    def passages(self) -> Iterator[list[Record]]:
        """Those that are new or changed, in lists of any length. Removes what their documents no longer have."""
        block: list[Record] = []
        ends: list[tuple[str, int]] = []
        for item in self._documents:
            if isinstance(item, Reject):
                self._reject(item)
                continue
            try:
                passages = self._new(item)
            except InvalidInput as error:
                self._reject(Reject(item.where, str(error)))
                continue
            self._summary.documents += 1
            block += passages
            ends.append((item.id, len(passages)))
            if len(block) >= _COMPARED or len(ends) >= _COMPARED:
                yield self._compared(block, ends)
                block, ends = [], []
        yield self._compared(block, ends)

    def remove_others(self) -> None:
        """Removes from the collection what was not read. Nothing, if anything was rejected."""
        if self._summary.rejected:
            return
        others: list[str] = []
        for page in self._store.scroll(size=_PAGE):
            others += self._seen.lacks([record.id for record in page.records])
        for first in range(0, len(others), _PAGE):
            self._store.delete(others[first : first + _PAGE])
        self._summary.removed += len(others)

    def close(self) -> None:
        """Removes temporary files."""
        self._seen.close()
        if self._file is not None:
            self._file.close()

    def _new(self, document: Document) -> list[Record]:
        """The passages of a document that has not been there yet in this run."""
        check_text(document.id, f"{document.where}: the id")
        if (document.named or self._sync) and not self._seen.add(document.id):
            raise InvalidInput(f"{document.where}: the id {document.id!r} was there before; ids must be distinct")
        check_text(document.text, document.where)  # a splitter takes nothing else
        passages = checked_records(self._chunker(document))
        if self._sync:
            for passage in passages[1:]:
                self._seen.add(passage.id)
        return passages

    def _compared(self, passages: list[Record], ends: list[tuple[str, int]]) -> list[Record]:
        changed: list[Record] = []
        try:
            changed = self._store.changed(passages)
            kept = len(passages)
        except InvalidInput:  # one of them is nothing for this store
            kept = 0
            for passage in passages:
                try:
                    changed += self._store.changed([passage])
                    kept += 1
                except InvalidInput as error:
                    self._reject(Reject(passage.id, str(error)))
        self._summary.passages += kept
        self._summary.unchanged += kept - len(changed)
        self._remove_former(ends)
        return changed

    def _remove_former(self, ends: list[tuple[str, int]]) -> None:
        """Removes the passages that documents once had behind these numbers."""
        while ends:
            found = {record.id: record for record in self._store.get([passage_id(*end) for end in ends])}
            ends = [end for end in ends if _is_passage(found.get(passage_id(*end)), end[1])]
            if ends:
                self._store.delete([passage_id(*end) for end in ends])
                self._summary.removed += len(ends)
            ends = [(document, number + 1) for document, number in ends]

    def _reject(self, reject: Reject) -> None:
        self._summary.reject(reject)
        if self._rejects is None:
            return
        if self._file is None:
            self._file = self._rejects.open("w", encoding="utf-8", buffering=1)
        self._file.write(json.dumps({"where": reject.where, "reason": reject.reason}, ensure_ascii=False) + "\n")


def _is_passage(record: Record | None, number: int) -> bool:
    """Whether a record is a document's passage of this number, and no other that somebody gave such an id."""
    return record is not None and record.metadata.get(PASSAGE, 0) == number
