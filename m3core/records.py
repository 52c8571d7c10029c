"""Reading texts from JSON lines: one rule for corpora, queries and what is to be encoded."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3core.errors import InvalidInput


@dataclass(frozen=True)
class TextRecord:
    """One text of a file.

    Attributes:
        id: its `_id` (or `id`), as a string.
        text: title and text together.
        metadata: a dict, empty where the file has none.
    """

    id: str
    text: str
    metadata: dict[str, Any]


def read_records(path: Path) -> Iterator[TextRecord]:
    """The records of a JSON-lines file: `{"_id": …, "text": …, "title"?: …, "metadata"?: {…}}` a line.

    Empty lines are passed over. Reads as it is iterated.

    Raises:
        InvalidInput: no such file, or a line that is no such record, named by file and line.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _record(line, f"{path}:{number}")


def _record(line: bytes, where: str) -> TextRecord:
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
    return TextRecord(str(identifier), f"{title} {text}".strip(), metadata)
