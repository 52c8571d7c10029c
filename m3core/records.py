"""Reading JSON lines, and from them texts with ids and metadata: one rule for corpora, queries and stores."""

import gzip
import json
import zlib
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
    for where, record in read_objects(path):
        yield _record(record, where)


def read_objects(path: Path, *, longest: int | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON-lines file, compressed if its name ends in `.gz`, each with its place, `file:line`.

    Empty lines are passed over. Reads as it is iterated.

    Args:
        path: of the file.
        longest: how many bytes a line may have; `None` is no limit.

    Raises:
        InvalidInput: no such file, or a line that is too long or holds no JSON object, named by file and line.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            lines = iter(file.readline if longest is None else lambda: file.readline(longest + 1), b"")
            for number, line in enumerate(lines, start=1):
                if longest is not None and len(line) > longest:
                    raise InvalidInput(f"{path}:{number}: longer than {longest:,} bytes; is a line break missing?")
                if line.strip():
                    yield f"{path}:{number}", _object(line, f"{path}:{number}")
    except (EOFError, OSError, zlib.error) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # malformed JSON, or bytes that are not UTF-8
        raise InvalidInput(f"{where}: not JSON ({error})") from error
    if not isinstance(record, dict):
        raise InvalidInput(f"{where}: expected a JSON object, not {type(record).__name__}")
    return record


def _record(record: dict[str, Any], where: str) -> Record:
    identifier, text = record.get("_id", record.get("id")), record.get("text")
    title, metadata = record.get("title") or "", record.get("metadata") or {}
    if not isinstance(identifier, str | int) or not isinstance(text, str):
        raise InvalidInput(f"{where}: expected an _id and a text, in {sorted(record)}")
    if not isinstance(title, str) or not isinstance(metadata, dict):
        raise InvalidInput(f"{where}: the title must be a string and the metadata an object")
    return Record(str(identifier), f"{title} {text}".strip(), metadata)
