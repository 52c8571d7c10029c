"""Encoded passages as JSON lines, for a look at them and for programs that read nothing else."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m3core import M3Output, Record, StoreError
from m3stores.collection import Comparison
from m3stores.keys import Keys


class LinesWriter:
    """The target of a run that writes such a file. May be shared by threads."""

    remote = False

    def __init__(self, path: Path) -> None:
        """Opens the file anew."""
        self._path = path
        self._file = path.open("w", encoding="utf-8")
        self._turn = threading.Lock()

    def keys(self) -> Keys:
        """None: the file is new."""
        return Keys.of({})

    def compare(self, records: Sequence[Record]) -> Comparison:
        """All are new."""
        return Comparison(list(records), len(records))

    def upsert(self, records: Sequence[Record], output: M3Output) -> list[str]:
        """Writes a line for each."""
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in _lines(records, output)]
        with self._turn, self._named():
            self._file.writelines(lines)
        return [record.id for record in records]

    def get(self, ids: Sequence[str]) -> list[Record]:
        """None."""
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Never called: `get` finds none."""

    def close(self) -> None:
        """Closes the file."""
        with self._named():
            self._file.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self._path} cannot be written: {error}") from error


def _lines(records: Sequence[Record], output: M3Output) -> Iterator[dict[str, Any]]:
    for row, record in enumerate(records):
        line: dict[str, Any] = {"_id": record.id, "text": record.text}
        if record.metadata:
            line["metadata"] = record.metadata
        if output.dense is not None:
            line["dense"] = output.dense[row].tolist()
        if output.sparse is not None:
            line["sparse"] = output.sparse[row].as_dict()
        if output.multivector is not None:
            line["multivector"] = output.multivector[row].tolist()
        yield line
