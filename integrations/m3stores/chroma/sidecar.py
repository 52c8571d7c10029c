"""Multi-vectors beside a Chroma collection, which cannot hold them: an SQLite file."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from m3core import StoreError
from m3core.output import FloatArray

_IDS = 500  # in one statement
_SCHEMA = """
CREATE TABLE IF NOT EXISTS multivectors (
    id TEXT NOT NULL, hash TEXT NOT NULL, width INTEGER NOT NULL, rows BLOB NOT NULL, PRIMARY KEY (id, hash)
)
"""


class Sidecar:
    """Multi-vectors as float16, each under a record's id and the hash of its content.

    One is written before its record, and the one of the content before goes afterwards. So a record that is there has
    its own, whenever the process died, and never another's. May be shared by threads.
    """

    def __init__(self, file: Path) -> None:
        """Opens the file, or makes it."""
        self._file = file
        self._lock = threading.Lock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database: sqlite3.Connection | None = sqlite3.connect(file, check_same_thread=False, timeout=60)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"no multi-vectors can be kept in {file}: {error}") from error

    def put(self, ids: Sequence[str], hashes: Sequence[str], multivectors: Sequence[FloatArray]) -> None:
        """Adds multi-vectors, beside those of the same ids under other hashes."""
        rows = [
            (i, content, values.shape[1], np.ascontiguousarray(values, dtype=np.float16).tobytes())
            for i, content, values in zip(ids, hashes, multivectors, strict=True)
        ]
        with self._used() as database:
            database.executemany("INSERT OR REPLACE INTO multivectors VALUES (?, ?, ?, ?)", rows)

    def forget(self, hashes: Mapping[str, str]) -> None:
        """Removes what these ids have under these hashes."""
        with self._used() as database:
            database.executemany("DELETE FROM multivectors WHERE id = ? AND hash = ?", list(hashes.items()))

    def remove(self, ids: Iterable[str]) -> None:
        """Removes all that these ids have."""
        with self._used() as database:
            database.executemany("DELETE FROM multivectors WHERE id = ?", [(i,) for i in ids])

    def get(self, hashes: Mapping[str, str]) -> dict[str, FloatArray]:
        """The multi-vectors of these ids with these hashes, `(t, d)` float32 each, as far as they are there."""
        rows = self._rows("id, hash, width, rows", hashes)
        return {i: _array(width, blob) for i, content, width, blob in rows if hashes[i] == content}

    def present(self, hashes: Mapping[str, str]) -> set[str]:
        """Those of these ids that have a multi-vector with this hash."""
        return {i for i, content in self._rows("id, hash", hashes) if hashes[i] == content}

    def clear(self) -> None:
        """Removes everything."""
        with self._used() as database:
            database.execute("DELETE FROM multivectors")

    def close(self) -> None:
        """Closes the file. May be called twice."""
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._database = None

    def _rows(self, columns: str, ids: Iterable[str]) -> Iterator[Any]:
        wanted = list(ids)
        for start in range(0, len(wanted), _IDS):
            some = wanted[start : start + _IDS]
            marks = ",".join("?" * len(some))
            with self._used() as database:
                query = f"SELECT {columns} FROM multivectors WHERE id IN ({marks})"  # noqa: S608 (no user's text)
                rows = database.execute(query, some).fetchall()
            yield from rows

    @contextmanager
    def _used(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._database is None:
                raise StoreError(f"the multi-vectors in {self._file} are closed: open a new ChromaStore")
            try:
                with self._database:
                    yield self._database
            except sqlite3.Error as error:
                raise StoreError(f"the multi-vectors in {self._file} cannot be used: {error}") from error


def _array(width: int, blob: bytes) -> FloatArray:
    return np.frombuffer(blob, dtype=np.float16).reshape(-1, width).astype(np.float32)
