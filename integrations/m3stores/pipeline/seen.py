"""Which ids there have been, however many: in SQLite's own temporary file, not in memory."""

import sqlite3
from collections.abc import Sequence


class Seen:
    """A set of ids. Used by one thread at a time."""

    def __init__(self) -> None:
        """Empty. SQLite makes the file where temporary files are made when it is too large for its cache."""
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID;"
        )

    def add(self, new: str) -> bool:
        """Puts an id in; whether it was new."""
        return bool(self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (new,)).rowcount)

    def lacks(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that have not been put in."""
        there = "SELECT 1 FROM seen WHERE id = ?"
        return [one for one in ids if self._database.execute(there, (one,)).fetchone() is None]

    def close(self) -> None:
        """Removes the file."""
        self._database.close()
