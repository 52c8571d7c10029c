"""Encoded passages in a folder of Parquet files: made once, loaded into collections as often as need be.

Each file is there whole or not at all. Its columns are those of `tables`, and `text_hash`; the schema's metadata says
what made the vectors. So any program that reads Parquet can use them.
"""

import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m3core import CollectionMismatch, InvalidInput, M3Output, Mode, Record, StoreError
from m3stores.collection import Comparison
from m3stores.keys import Keys, text_hash
from m3stores.locking import locked
from m3stores.pipeline.formats import ENCODED
from m3stores.pipeline.tables import Origin, modes_of, table_of

_SUFFIX, _PARTIAL = ".parquet", ".partial"
_BYTES, _SECONDS = 128 << 20, 60.0  # of a file at most, and until it is there
_CHANGED = "encode into another folder: files are not changed"


class PartsWriter:
    """The target of a run that writes such a folder. May be shared by threads.

    Attributes:
        modes: of what lies there already; `None` if nothing does.
        origin: what made it.
    """

    remote = False  # writes files of this machine

    def __init__(self, folder: Path) -> None:
        """Makes the folder, or finds what a run before has left.

        Raises:
            InvalidInput: it cannot be made, or holds something else.
            CollectionLocked: another run writes to it.
        """
        self._folder = folder
        if folder.is_file():
            raise InvalidInput(f"{folder} is a file: encoded passages are a folder of Parquet files; name another one")
        self.origin: Origin | None = None
        self.modes: tuple[Mode, ...] | None = None
        self._lock = locked(folder / ".lock", f"the folder {folder}")
        try:
            for left in folder.glob(f"*{_PARTIAL}"):
                left.unlink()
            self._load()
        except BaseException:
            self._lock.release()
            raise
        self._turn = threading.Lock()
        self._writer: Any = None
        self._partial, self._size, self._begun = folder, 0, 0.0

    def keys(self) -> Keys:
        """Of what was there from the start."""
        return self._keys

    def compare(self, records: Sequence[Record]) -> Comparison:
        """By keys.

        Raises:
            CollectionMismatch: a record is there with another text or other metadata.
        """
        comparison = self._keys.compare(records)
        if there := self._keys.among([record.id for record in comparison.differing]):
            raise CollectionMismatch(f"{there[0]!r} lies encoded in {self._folder} as another text; {_CHANGED}")
        return comparison

    def upsert(self, records: Sequence[Record], output: M3Output) -> list[str]:
        """Writes records that are not there.

        Raises:
            CollectionMismatch: another encoder made what lies there, or it has other modes.
            StoreError: the files cannot be written.
        """
        origin = Origin.of(output)
        table = table_of(records, output)
        table = table.append_column("text_hash", pa.array([text_hash(record) for record in records]))
        with self._turn:
            self.check(origin, output.modes)
            self.origin, self.modes = origin, output.modes
            with self._named():
                self._write(table.replace_schema_metadata({ENCODED: origin.as_json()}))
        return [record.id for record in records]

    def get(self, ids: Sequence[str]) -> list[Record]:
        """None; they are asked for where a document might have got shorter.

        Raises:
            CollectionMismatch: one is there.
        """
        if there := self._keys.among(ids):
            raise CollectionMismatch(f"{there[0]!r} lies encoded in {self._folder}, and is no longer there; {_CHANGED}")
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Never called: `get` finds none."""

    def close(self) -> None:
        """Completes the last file.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            with self._turn:
                self._complete()
        finally:
            self._lock.release()

    def _load(self) -> None:
        if not (paths := _complete_ones(self._folder)):
            self._keys = Keys.of({})
            return
        self.origin, self.modes, _ = origin_of_all(paths)
        keys = []
        for path in paths:
            with opened(path) as file:
                batches = file.iter_batches(columns=["_id", "text_hash"])
                keys += [Keys.of(dict(zip(*(c.to_pylist() for c in batch.columns), strict=True))) for batch in batches]
        self._keys = Keys.joined(keys)

    def check(self, origin: Origin, modes: Sequence[Mode]) -> None:
        """Refuses others than lie there.

        Raises:
            CollectionMismatch: says what differs.
        """
        if self.origin is not None and self.modes is not None:
            _check_same((self.origin, self.modes), (origin, modes), self._folder)

    def _write(self, table: pa.Table) -> None:
        if self._writer is None:
            name = f"part-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
            self._partial, self._size, self._begun = self._folder / (name + _PARTIAL), 0, time.monotonic()
            self._writer = pq.ParquetWriter(self._partial, table.schema, compression="zstd")
        self._writer.write_table(table)
        self._size += table.nbytes
        if self._size >= _BYTES or time.monotonic() - self._begun >= _SECONDS:
            self._complete()

    def _complete(self) -> None:
        if self._writer is None:
            return
        with self._named():
            self._writer.close()
            with self._partial.open("rb+") as file:
                os.fsync(file.fileno())
            self._partial.replace(self._partial.with_suffix(""))
        self._writer = None

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Gives up a file that cannot be written."""
        try:
            yield
        except OSError as error:
            self._writer = None
            self._partial.unlink(missing_ok=True)
            raise StoreError(f"{self._folder} cannot be written: {error}") from error


def _complete_ones(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SUFFIX}"))


def parts_of(folder: Path) -> list[Path]:
    """The files of a folder, oldest first.

    Raises:
        InvalidInput: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder}: m3 encode SOURCE {folder} makes one")
    if not (found := _complete_ones(folder)):
        raise InvalidInput(f"there is nothing in {folder}: no file in it ends in {_SUFFIX}")
    return found


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A Parquet file.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}; remove it, and encode what was in it again") from error


def origin_of_all(paths: Sequence[Path]) -> tuple[Origin, tuple[Mode, ...], int]:
    """What made the representations in some files, in which modes, and how many there are.

    Raises:
        InvalidInput: a file does not say.
        CollectionMismatch: they were made by different encoders, or have different modes.
    """
    found: list[tuple[Origin, tuple[Mode, ...]]] = []
    total = 0
    for path in paths:
        with opened(path) as file:
            noted = (file.schema_arrow.metadata or {}).get(ENCODED)
            if noted is None:
                raise InvalidInput(f"{path} is not of `m3 encode`: its schema does not say which encoder made it")
            found.append((Origin.from_json(noted), modes_of(file.schema_arrow)))
            total += file.metadata.num_rows
        _check_same(found[0], found[-1], path)
    return *found[0], total


def _check_same(held: tuple[Origin, Sequence[Mode]], given: tuple[Origin, Sequence[Mode]], place: Path) -> None:
    if set(held[1]) != set(given[1]):
        raise CollectionMismatch(
            f"{place}: {', '.join(held[1])} lie there, and these are {', '.join(given[1])}: keep them in folders apart"
        )
    if held[0] != given[0]:
        raise CollectionMismatch(
            f"{place}: another encoder made what lies there, {held[0].fingerprint} and not {given[0].fingerprint}: "
            "keep them in folders apart"
        )
