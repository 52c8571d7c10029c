"""`VectorCache`: bytes by key in SQLite, the least recently used ones dropped, for threads and processes at once.

It is SQLite, which the standard library has, and not one of the cache libraries, because those unpickle what they find.
"""

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from m3core.errors import CacheWarning, InvalidInput
from m3core.portions import by_portions

T = TypeVar("T")

_VERSION = 1
_APPLICATION = 0x6D336361  # "m3ca"
_TABLES = (
    "CREATE TABLE vectors (key BLOB PRIMARY KEY, used INTEGER NOT NULL, size INTEGER NOT NULL, value BLOB)",
    "CREATE INDEX vectors_used ON vectors (used)",
    "CREATE TABLE held (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL)",
    "INSERT INTO held VALUES (1, 0)",
    "CREATE TRIGGER vectors_added AFTER INSERT ON vectors BEGIN UPDATE held SET bytes = bytes + NEW.size; END",
    "CREATE TRIGGER vectors_changed AFTER UPDATE OF size ON vectors "
    "BEGIN UPDATE held SET bytes = bytes - OLD.size + NEW.size; END",
    "CREATE TRIGGER vectors_dropped AFTER DELETE ON vectors BEGIN UPDATE held SET bytes = bytes - OLD.size; END",
)
_KEEP = """
INSERT INTO vectors VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET used = excluded.used, size = excluded.size, value = excluded.value
"""
_ATTEMPTS = 8
_OVERHEAD = 100  # bytes that a row takes beside its value
_AT_ONCE = 500  # keys in a query
_PORTION = 16 << 20  # bytes in a transaction
_ROOM = 0.1  # of a full cache is made free at a time
_FRESH = 60 * 10**9  # ns for which a row needs no new mark of use
_PATIENCE = 30.0  # seconds to wait for another process's write
_INHERITED: list[sqlite3.Connection | None] = []  # of forked processes, which must not even close them


class VectorCache:
    """Keeps what was encoded, so that no text goes through a model twice.

    ```python
    from m3core import M3Encoder, VectorCache

    encoder = M3Encoder("m3-mini", cache="vectors.sqlite")  # or cache=VectorCache("vectors.sqlite", max_bytes=10**10)
    encoder.encode_documents(["巴黎是法国的首都。"])  # encoded, in all modes
    encoder.encode_documents(["巴黎是法国的首都。"])  # read, bit by bit the same
    ```

    What is kept of a text is kept for each mode apart, under the model, its revision and settings, the maximum length
    and the dtype, so that one file serves any number of encoders, threads and processes. Vectors are float32: with
    bge-m3, 4 kB for the dense one, about 1 kB for the sparse one, and 4 kB a token for the multi-vector.

    A cache that cannot be read or written for a time, because the disk is full or another process holds it, costs a
    `CacheWarning` and another forward pass, no more. A text that is too long says so when it is cut, and not again when
    what was made of it is read.

    Attributes:
        path: the file; `None` is a temporary one of this process, which goes to disk beyond a few MB.
        max_bytes: what it may hold; beyond that, what was not used for longest, to the minute, is dropped.
    """

    def __init__(self, path: str | Path | None = None, *, max_bytes: int = 2**30) -> None:
        """Opens a cache, or makes one.

        Args:
            path: the file; `None` is a temporary one.
            max_bytes: what it may hold.

        Raises:
            InvalidInput: the file is something else, or cannot be opened; or a limit that is no limit.
        """
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
            raise InvalidInput(f"max_bytes must be a whole number from 1, not {max_bytes!r}")
        self.path = None if path is None else Path(os.path.expanduser(path))
        self.max_bytes = max_bytes
        self._process, self._lock = os.getpid(), threading.Lock()
        self._connection: sqlite3.Connection | None = self._connected()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that are there."""
        return self._guarded(lambda connection: self._get(connection, keys), {})

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keeps values, in place of those that the keys have."""
        self._guarded(lambda connection: self._put(connection, values), None)

    def clear(self) -> None:
        """Drops everything."""
        self._guarded(lambda connection: connection.execute("DELETE FROM vectors"), None)

    @property
    def nbytes(self) -> int:
        """What it holds, in bytes."""
        return self._guarded(lambda connection: int(connection.execute("SELECT bytes FROM held").fetchone()[0]), 0)

    def __len__(self) -> int:
        """How many representations it holds: of each text one for each mode."""
        return self._guarded(
            lambda connection: int(connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0]), 0
        )

    def __bool__(self) -> bool:
        """A cache is one even while it is empty."""
        return True

    def __repr__(self) -> str:
        """The file and the limit."""
        return f"VectorCache({str(self.path) if self.path else None!r}, max_bytes={self.max_bytes})"

    def close(self) -> None:
        """Closes the file; a temporary one is gone. The next use opens it anew. Does nothing in a forked child."""
        if self._process != os.getpid():
            return
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process opens the same file, or a temporary one of its own."""
        return {"path": self.path, "max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _connected(self) -> sqlite3.Connection:
        try:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path or "", timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA page_size = 16384")  # most values are several kB
            with _transaction(connection):  # others may be making it at this moment
                self._prepare(connection)
            connection.execute(f"PRAGMA synchronous = {'NORMAL' if self.path else 'OFF'}")
            connection.execute(f"PRAGMA journal_size_limit = {4 * _PORTION}")
            self._set_journal(connection)
        except (sqlite3.Error, OSError) as error:
            raise InvalidInput(f"{self.path} cannot be used as a cache: {error}; give another file") from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
                raise InvalidInput(f"{self.path} is the database of another program: give the cache a file of its own")
            if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                raise InvalidInput(f"{self.path} is a cache of another version of this package: delete it")
            return
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _set_journal(self, connection: sqlite3.Connection) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                connection.execute(f"PRAGMA journal_mode = {'WAL' if self.path else 'MEMORY'}")
                return
            except sqlite3.OperationalError:  # busy, for which SQLite does not wait here
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.02 * 2**attempt)

    def _guarded(self, use: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        if self._process != os.getpid():  # after a fork: the parent's connection stays the parent's
            _INHERITED.append(self._connection)
            self._process, self._lock, self._connection = os.getpid(), threading.Lock(), None
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connected()
                return use(self._connection)
            except (sqlite3.Error, InvalidInput) as error:
                warnings.warn(
                    f"the cache {self.path or ''} is passed over: {error}. If that goes on, delete it, or give another",
                    CacheWarning,
                    stacklevel=2,
                )
                return otherwise

    def _get(self, connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        stale: list[bytes] = []
        now = time.time_ns()
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = connection.execute(f"SELECT key, used, value FROM vectors WHERE key IN ({marks})", some)  # noqa: S608
            for key, used, value in rows:
                found[key] = value
                if now - used > _FRESH:
                    stale.append(key)
        if stale:
            self._mark(connection, stale, now)
        return found

    def _mark(self, connection: sqlite3.Connection, keys: Sequence[bytes], now: int) -> None:
        """Notes that keys were used; where another process is writing, some other time."""
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            with _transaction(connection):
                connection.executemany("UPDATE vectors SET used = ? WHERE key = ?", [(now, key) for key in keys])
        except sqlite3.OperationalError:
            pass
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(1000 * _PATIENCE)}")

    def _put(self, connection: sqlite3.Connection, values: Mapping[bytes, bytes]) -> None:
        now = time.time_ns()
        rows = [(key, now, len(value) + _OVERHEAD, value) for key, value in values.items()]
        rows = [row for row in rows if row[2] <= self.max_bytes]
        for portion in by_portions([row[2] for row in rows], len(rows), _PORTION):
            with _transaction(connection):
                connection.executemany(_KEEP, [rows[place] for place in portion])
                held = connection.execute("SELECT bytes FROM held").fetchone()[0]
                if held > self.max_bytes:
                    self._make_room(connection, held - int(self.max_bytes * (1 - _ROOM)))

    def _make_room(self, connection: sqlite3.Connection, size: int) -> None:
        dropped: list[tuple[bytes]] = []
        for key, freed in connection.execute("SELECT key, size FROM vectors ORDER BY used, rowid"):
            if size <= 0:
                break
            dropped.append((key,))
            size -= freed
        connection.executemany("DELETE FROM vectors WHERE key = ?", dropped)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
