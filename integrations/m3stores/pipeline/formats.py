"""Reading files: JSON lines, Parquet, CSV, text, Markdown and HTML. What is wrong with one does not stop the rest."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from m3core import InvalidInput, MissingDependency
from m3core.pages import load_lxml
from m3core.records import try_objects
from m3stores.pipeline.documents import Columns, Document, Kind, Reject
from m3stores.pipeline.pages import read_page

Rows = Iterator[tuple[int, dict[str, Any] | InvalidInput]]
"""The records of a file with their places, and errors in place of bad ones."""

ENCODED = b"m3"
"""In the metadata of a Parquet file's schema where it holds encoded passages: what made them."""

_LONGEST = 16 << 20  # bytes of a line, of a page and of what was compressed, or characters of a table's cell
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
_PAGES = (".html", ".htm", ".xhtml")
_PLAIN = (*_TEXTS, *_PAGES)
SUFFIXES = (*_TABLES, *_PLAIN, *(f"{suffix}.gz" for suffix in _PLAIN))
"""How names of files end that can be read."""


def check_readers(paths: Iterable[Path]) -> None:
    """Makes sure, before anything is read, that what files need is installed.

    Raises:
        MissingDependency: there is HTML, and no lxml.
    """
    if any(_suffix(path).removesuffix(".gz") in _PAGES for path in paths):
        load_lxml()


def read_file(path: Path, name: str, columns: Columns, encoding: str) -> Iterator[Document | Reject]:
    """The documents of a file: the records of a table, or a text or a page as one.

    Args:
        path: of the file.
        name: by which it goes in ids, errors and metadata.
        columns: of a table.
        encoding: of texts and CSV, and of pages that do not say theirs.
    """
    suffix = _suffix(path)
    try:
        if suffix not in _TABLES:
            yield _document(path, name, suffix, encoding)
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
    except InvalidInput as error:
        yield Reject(name, str(error))
    except OSError as error:
        yield Reject(name, f"{name} cannot be read: {error.strerror or error}")
    except (EOFError, zlib.error) as error:
        yield Reject(name, f"{name} cannot be read: {error}")


def _suffix(path: Path) -> str:
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def _document(path: Path, name: str, suffix: str, encoding: str) -> Document:
    """A text, or a page."""
    plain = suffix.removesuffix(".gz")
    is_bounded = plain != suffix or plain in _PAGES  # what takes many times its size
    with gzip.open(path) if plain != suffix else path.open("rb") as file:
        data = file.read(_LONGEST + 1 if is_bounded else -1)
    if is_bounded and len(data) > _LONGEST:
        raise InvalidInput(f"{name}: longer than {_LONGEST:,} bytes; split it, or leave it out")
    metadata = {"source": name}
    if plain in _PAGES:
        title, text = read_page(data, name, encoding)
        return Document(name, text, name, metadata | ({"title": title} if title else {}), kind="markdown")
    text = io.TextIOWrapper(io.BytesIO(data), encoding).read()
    return Document(name, text, name, metadata, kind=_TEXTS[plain])
