"""The steps of a run as functions from Arrow table to Arrow table, for any engine that maps batches.

`split` makes passages of documents, `encode` adds their representations, `write` stores them. What else there is to
tell, of documents that were split, of passages that were there already, of what cannot be used, goes along as a row of
its own, a `Note` in the column `note`: so it arrives as often as the passages of the same batch do, once.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc

from m3core import InvalidInput, M3Encoder, Mode, Record
from m3stores.checks import checked_records
from m3stores.keys import Keys
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.documents import Document, Reject
from m3stores.pipeline.job import Target
from m3stores.pipeline.notes import Note
from m3stores.pipeline.reading import passages_of
from m3stores.pipeline.removing import remove_former
from m3stores.pipeline.storing import encoded, settled, stored
from m3stores.pipeline.tables import Origin, output_of, records_of, table_of


def documents_table(items: Iterable[Document | Reject]) -> pa.Table:
    """Sound documents as `split` takes them."""
    rows = []
    for item in items:
        row: dict[str, str | bool | None] = {}
        if isinstance(item, Document):
            try:
                (plain,) = checked_records([Record(item.id, "", item.metadata)])
                row = {"metadata": json.dumps(plain.metadata, ensure_ascii=False)}
                row |= {"id": item.id, "text": item.text, "where": item.where, "kind": item.kind}
            except InvalidInput as error:
                item = Reject(item.where, str(error))
        rows.append(row if row else asdict(item))
    columns = ("id", "text", "metadata", "where", "kind", "reason")
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.large_string()) for name in columns})


def split(documents: pa.Table, chunker: Chunker, keys: Keys) -> pa.Table:
    """The passages of documents that are not there yet.

    Args:
        documents: of `documents_table`.
        chunker: splits them.
        keys: of the collection.
    """
    passages: list[Record] = []
    rejects: list[Reject] = []
    ends: list[tuple[str, int]] = []
    for row in documents.to_pylist():
        reason, metadata = row.pop("reason"), row.pop("metadata")
        found = passages_of(
            Reject(row["where"], reason) if reason is not None else Document(**row, metadata=json.loads(metadata)),
            chunker,
        )
        if isinstance(found, Reject):
            rejects.append(found)
        else:
            passages += found.passages
            ends.append((found.document, len(found.passages)))
    comparison = keys.compare(passages)
    new = comparison.differing
    note = Note(len(ends), len(passages), len(passages) - len(new), added=comparison.new, ends=ends, rejects=rejects)
    return _with_notes(table_of(new), _row(note))


def encode(passages: pa.Table, encoder: M3Encoder, modes: Sequence[Mode]) -> pa.Table:
    """Adds representations. A passage that the encoder fails at, alone too, is rejected.

    Raises:
        Exception: the encoder fails at anything.
    """
    here, notes = _parted(passages)
    records, output, note = encoded(records_of(here), lambda texts: encoder.encode_documents(texts, modes=modes))
    if note != Note():
        notes = pa.concat_tables([notes, _row(note)], promote_options="default")
    if output is not None:
        return _with_notes(table_of(records, output), notes)
    columns = table_of([Record("", "")], encoder.encode_documents([""], modes=modes))
    return _with_notes(columns.slice(1), notes)  # so that all tables have the same


def write(passages: pa.Table, target: Target, origin: Origin) -> Note:
    """Stores passages, and removes those that their documents no longer have. What the store refuses is rejected.

    Args:
        passages: with their representations.
        target: takes them.
        origin: what made the representations.

    Returns:
        What there was to tell, and what was done.
    """
    here, notes = _parted(passages)
    note = sum((Note.from_json(content) for content in notes.column("note").to_pylist()), Note())
    if len(here):
        note += stored(records_of(here), output_of(here, origin), target)
    return settled(note, target) + Note(removed=remove_former(target, note.ends))


def _row(note: Note) -> pa.Table:
    return pa.table({"note": pa.array([note.as_json()], pa.large_string())})


def _with_notes(passages: pa.Table, notes: pa.Table) -> pa.Table:
    return pa.concat_tables([passages, notes], promote_options="default")


def _parted(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The passages, and the notes."""
    is_passage = pc.is_valid(table.column("_id"))
    return table.filter(is_passage).drop_columns(["note"]), table.filter(pc.invert(is_passage)).select(["note"])
