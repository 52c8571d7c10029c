"""Reading files: JSON lines, Parquet, CSV, plain text and Markdown. What is wrong with one does not stop the rest."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from m3core import InvalidInput, MissingDependency
from m3core.records import try_objects
from m3stores.pipeline.documents import Columns, Document, Kind, Reject

Rows = Iterator[tuple[int, dict[str, Any] | InvalidInput]]
"""The records of a file with their places, and errors in place of bad ones."""

ENCODED = b"m3"
"""In the metadata of a Parquet file's schema where it holds encoded passages: what made them."""

_LONGEST = 16 << 20  # bytes of a line, or characters of a table's cell
_ROWS = 1024  # of a Parquet file at once


def _json_lines(path: Path, encoding: str) -> Rows:
    return try_objects(path, longest=_LONGEST)


def _csv(path: Path, encoding: str) -> Rows:
    csv.field_size_limit(_LONGEST)
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, InvalidInput(f"{path}:{reader.line_num}: {error}")
                continue
            if None in row:
                yield reader.line_num, InvalidInput(f"{path}:{reader.line_num}: more cells than columns")
            else:
                yield reader.line_num, {name: cell for name, cell in row.items() if cell is not None}


def _parquet(path: Path, encoding: str) -> Rows:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependency("Parquet needs pyarrow: pip install 'm3-retrieval[parquet]'") from error
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            if ENCODED in (file.schema_arrow.metadata or {}):
                raise InvalidInput(f"{path} holds encoded passages: m3 index --from-encoded stores them")
            for batch in file.iter_batches(batch_size=_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except InvalidInput as error:
        yield number, error
    except pa.ArrowException as error:
        yield number, InvalidInput(f"{path} cannot be read: {error}")


_TABLES: dict[str, Callable[[Path, str], Rows]] = {
    ".jsonl": _json_lines,
    ".jsonl.gz": _json_lines,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
_TEXTS: dict[str, Kind] = {".txt": "text", ".md": "markdown", ".markdown": "markdown"}
SUFFIXES = (*_TABLES, *_TEXTS)
"""How names of files end that can be read."""


def read_file(path: Path, name: str, columns: Columns, encoding: str) -> Iterator[Document | Reject]:
    """The documents of a file: the records of a table, or a text as one.

    Args:
        path: of the file.
        name: by which it goes in ids, errors and metadata.
        columns: of a table.
        encoding: of texts and CSV.
    """
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    try:
        if suffix in _TEXTS:
            text = path.read_text(encoding)
            yield Document(name, text, name, {"source": name}, kind=_TEXTS[suffix])
            return
        for number, row in _TABLES[suffix](path, encoding):
            where = f"{name}:{number}"
            try:
                if isinstance(row, InvalidInput):
                    raise row
                yield columns.document(row, name, number, where)
            except InvalidInput as error:
                yield Reject(where, str(error))
    except UnicodeDecodeError as error:
        yield Reject(name, f"{name} is not {encoding} ({error.reason} at byte {error.start}): say its encoding")
    except OSError as error:
        yield Reject(name, f"{name} cannot be read: {error.strerror or error}")
