"""A text with its id and metadata, and reading such records from JSON lines: one rule for corpora, queries, stores."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3core.errors import InvalidInput


@dataclass(frozen=True)
class Record:
    """A text, and what is known of it.

    Attributes:
        id: any string.
        text: what was, or is to be, encoded.
        metadata: whatever JSON can hold.
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_records(path: Path) -> Iterator[Record]:
    """The records of a JSON-lines file: `{"_id": …, "text": …, "title"?: …, "metadata"?: {…}}` a line.

    The id may be a number or under `id`; title and text are joined. Empty lines are passed over. Reads as it is
    iterated.

    Raises:
        InvalidInput: no such file, or a line that is no such record, named by file and line.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _record(line, f"{path}:{number}")


def _record(line: bytes, where: str) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:  # malformed JSON, or bytes that are not UTF-8
        raise InvalidInput(f"{where}: not JSON ({error})") from error
    if not isinstance(record, dict):
        raise InvalidInput(f"{where}: expected a JSON object, not {type(record).__name__}")
    identifier, text = record.get("_id", record.get("id")), record.get("text")
    title, metadata = record.get("title") or "", record.get("metadata") or {}
    if not isinstance(identifier, str | int) or not isinstance(text, str):
        raise InvalidInput(f"{where}: expected an _id and a text, in {sorted(record)}")
    if not isinstance(title, str) or not isinstance(metadata, dict):
        raise InvalidInput(f"{where}: the title must be a string and the metadata an object")
    return Record(str(identifier), f"{title} {text}".strip(), metadata)
