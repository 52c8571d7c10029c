"""What a run could not use, counted and written down."""

import json
from pathlib import Path
from typing import TextIO

from m3core import InvalidInput
from m3stores.pipeline.documents import Reject
from m3stores.pipeline.summary import Summary


class Rejects:
    """Takes them as they come. The file is made with the first one."""

    def __init__(self, summary: Summary, path: Path | None) -> None:
        """Counts in `summary`, and writes JSON lines with `where` and `reason`, if it is told where.

        Removes the file that a run before has left.

        Raises:
            InvalidInput: there is no such folder, or another file of this name.
        """
        if path is not None:
            if not path.parent.is_dir():
                raise InvalidInput(f"{path} cannot be written: there is no folder {path.parent}")
            if path.exists() and not _is_of_rejects(path):
                raise InvalidInput(f"{path} holds something else than rejects: name another file")
            path.unlink(missing_ok=True)
        self._summary, self._path = summary, path
        self._file: TextIO | None = None

    def add(self, *rejects: Reject) -> None:
        """Counts and writes some."""
        for reject in rejects:
            self._summary.reject(reject)
            if self._path is None:
                continue
            if self._file is None:
                self._file = self._path.open("w", encoding="utf-8", buffering=1)
            self._file.write(json.dumps({"where": reject.where, "reason": reject.reason}, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def _is_of_rejects(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(file.readline() or '{"where": "", "reason": ""}')
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and first.keys() == {"where", "reason"}
