"""Encoding and storing passages so that one which cannot be used does not stop the others."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from m3core import InvalidInput, M3Output, Record
from m3stores.pipeline.documents import Reject
from m3stores.pipeline.job import Target
from m3stores.pipeline.notes import Note

Encode = Callable[[list[str]], M3Output]


def encoded(records: Sequence[Record], encode: Encode) -> tuple[list[Record], M3Output | None, Note]:
    """Representations of passages. Halves what fails, until it is clear which texts are to blame; these are rejected.

    Returns:
        The passages that were encoded, what they were encoded to if there are any, and what there is to tell.

    Raises:
        Exception: the encoder fails at anything.
    """
    if not records:
        return [], None, Note()
    try:
        return list(records), encode([record.text for record in records]), Note()
    except Exception as error:  # whatever a model's engine raises
        if len(records) == 1:
            encode(["a"])  # if this fails too, it is not the text's fault
            return [], None, _rejected(records[0], f"{records[0].id}: encoding failed: {error}")
    middle = len(records) // 2
    halves = [encoded(half, encode) for half in (records[:middle], records[middle:])]
    outputs = [output for _, output, _ in halves if output is not None]
    done = [record for half, _, _ in halves for record in half]
    return done, M3Output.concat(outputs) if outputs else None, halves[0][2] + halves[1][2]


def stored(records: Sequence[Record], output: M3Output, target: Target) -> Note:
    """Stores passages. What the target refuses is rejected."""
    try:
        target.upsert(records, output)
        return Note(encoded=len(records))
    except InvalidInput as error:
        if len(records) == 1:
            return _rejected(records[0], str(error))
    return sum((stored([record], output[row], target) for row, record in enumerate(records)), Note())


def settled(note: Note, target: Target) -> Note:
    """With the passages that were dropped taken off the counts that they are in."""
    if not note.dropped:
        return note
    known = len(target.get(note.dropped))
    dropped = len(note.dropped)
    return replace(note, dropped=()) + Note(passages=-dropped, added=known - dropped)


def _rejected(record: Record, reason: str) -> Note:
    return Note(dropped=[record.id], rejects=[Reject(record.id, reason)])
