"""Exact search among a few thousand dense vectors in memory."""

import threading
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from m3core.output import FloatArray


class DenseIndex:
    """Vectors as rows of one matrix, and ids. May be shared by threads."""

    def __init__(self, width: int) -> None:
        """`width` is that of the vectors."""
        self._lock = threading.Lock()
        self._matrix = np.zeros((0, width), dtype=np.float32)
        self._ids: list[str | None] = []  # of each row; None where the row is free
        self._row: dict[str, int] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._row)

    def put(self, ids: Sequence[str], vectors: FloatArray) -> None:
        """Adds vectors, in place of any with the same ids."""
        with self._lock:
            for i in ids:
                if i not in self._row:
                    if not self._free:
                        self._free.append(len(self._ids))
                        self._ids.append(None)
                    self._row[i] = self._free.pop()
                    self._ids[self._row[i]] = i
            if len(self._ids) > len(self._matrix):
                more = np.zeros((2 * len(self._ids) - len(self._matrix), self._matrix.shape[1]), dtype=np.float32)
                self._matrix = np.concatenate([self._matrix, more])
            self._matrix[[self._row[i] for i in ids]] = vectors

    def remove(self, ids: Iterable[str]) -> None:
        """Forgets vectors; ids that are not there do not matter."""
        with self._lock:
            for i in ids:
                if (row := self._row.pop(i, None)) is not None:
                    self._ids[row] = None
                    self._free.append(row)

    def get(self, ids: Iterable[str]) -> dict[str, FloatArray]:
        """The vectors of these ids, as far as they are there."""
        with self._lock:
            return {i: self._matrix[self._row[i]].copy() for i in ids if i in self._row}

    def best(self, query: FloatArray, limit: int, among: Collection[str] | None) -> dict[str, float]:
        """The ids with the largest dot products.

        Args:
            query: `(d,)`.
            limit: the most ids.
            among: only these; `None` is all.
        """
        with self._lock:
            wanted = self._row.values() if among is None else [self._row[i] for i in among if i in self._row]
            rows = np.fromiter(wanted, dtype=np.int64, count=len(wanted))
            scores = (self._matrix[: len(self._ids)] @ query)[rows]
            if len(rows) > limit:
                best = np.argpartition(-scores, limit - 1)[:limit]
                rows, scores = rows[best], scores[best]
            return {str(self._ids[row]): float(score) for row, score in zip(rows, scores, strict=True)}
