"""Reading JSON lines, and from them texts with ids and metadata: one rule for corpora, queries and stores."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedIOBase
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
    for number, found in try_objects(path, longest=longest):
        if isinstance(found, InvalidInput):
            raise found
        yield f"{path}:{number}", found


def try_objects(path: Path, *, longest: int | None = None) -> Iterator[tuple[int, dict[str, Any] | InvalidInput]]:
    """What `read_objects` gives and what it raises, in their order, each with the number of its line.

    It goes on behind a bad line. Where the file cannot be read on, the error is the last.

    Args:
        path: of the file.
        longest: as of `read_objects`.
    """
    if not path.is_file():
        yield 0, InvalidInput(f"there is no file {path}")
        return
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(_lines(file, longest), start=1):
                if line is None:
                    where = f"{path}:{number}"
                    yield number, InvalidInput(f"{where}: longer than {longest:,} bytes; is a line break missing?")
                elif line.strip():
                    yield number, _object(line, f"{path}:{number}")
    except (EOFError, OSError, zlib.error) as error:
        yield number, InvalidInput(f"{path} cannot be read: {error}")


def _lines(file: BufferedIOBase, longest: int | None) -> Iterator[bytes | None]:
    """The lines of a file; `None` in place of one that is too long, which is not held in memory."""
    limit = -1 if longest is None else longest + 1
    while line := file.readline(limit):
        if longest is None or len(line) <= longest:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(limit)
        yield None


def _object(line: bytes, where: str) -> dict[str, Any] | InvalidInput:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # malformed JSON, or bytes that are not UTF-8
        return InvalidInput(f"{where}: not JSON ({error})")
    if not isinstance(record, dict):
        return InvalidInput(f"{where}: expected a JSON object, not {type(record).__name__}")
    return record


def _record(record: dict[str, Any], where: str) -> Record:
    identifier, text = record.get("_id", record.get("id")), record.get("text")
    title, metadata = record.get("title") or "", record.get("metadata") or {}
    if not isinstance(identifier, str | int) or not isinstance(text, str):
        raise InvalidInput(f"{where}: expected an _id and a text, in {sorted(record)}")
    if not isinstance(title, str) or not isinstance(metadata, dict):
        raise InvalidInput(f"{where}: the title must be a string and the metadata an object")
    return Record(str(identifier), f"{title} {text}".strip(), metadata)
