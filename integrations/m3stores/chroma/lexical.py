"""An exact index of sparse vectors in memory: for stores that keep them but cannot search them."""

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3core import SparseVector

_REMEMBERED = 16

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int32]
_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Segment:
    """Postings of some rows, by token: those of `tokens[i]` are at `starts[i]:starts[i + 1]`, each row at most once."""

    tokens: _Ints
    starts: npt.NDArray[np.int64]
    rows: _Ints
    weights: _Floats

    @classmethod
    def of(cls, tokens: _Ints, rows: _Ints, weights: _Floats) -> "_Segment":
        """Of one token, row and weight for each posting."""
        order = np.argsort(tokens, kind="stable")  # quick where it is sorted in parts
        tokens = tokens[order]
        firsts = (
            np.flatnonzero(np.concatenate([[True], tokens[1:] != tokens[:-1]])) if len(tokens) else np.zeros(0, int)
        )
        return cls(tokens[firsts], np.append(firsts, len(tokens)), rows[order], weights[order])

    def postings(self) -> tuple[_Ints, _Ints, _Floats]:
        """What `of` takes."""
        return np.repeat(self.tokens, np.diff(self.starts)), self.rows, self.weights

    def add_scores(self, query: SparseVector, scores: _Floats, matched: _Flags) -> None:
        """Adds each row's products with the query's weights, and marks the rows that have any."""
        places = np.searchsorted(self.tokens, query.indices)
        for token, weight, place in zip(query.indices, query.values, places, strict=True):
            if place < len(self.tokens) and self.tokens[place] == token:
                span = slice(self.starts[place], self.starts[place + 1])
                rows = self.rows[span]
                scores[rows] += weight * self.weights[span]
                matched[rows] = True


class LexicalIndex:
    """Sparse vectors by token, in segments that are merged as they grow.

    Exact: a search goes through every posting of the query's tokens, which takes milliseconds among 100,000 texts. May
    be shared by threads. Also knows the hash of each record's content.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._ids: list[str] = []  # of all rows, dead ones too
        self._hashes: list[str] = []
        self._alive = np.zeros(0, dtype=bool)
        self._row: dict[str, int] = {}
        self._asked: dict[int, tuple[SparseVector, _Floats, _Flags]] = {}  # of late, by identity

    def __len__(self) -> int:
        return len(self._row)

    def put(self, ids: Sequence[str], vectors: Sequence[SparseVector], hashes: Iterable[str]) -> None:
        """Adds records, in place of any with the same ids."""
        if not ids:
            return
        with self._lock:
            first = len(self._ids)
            self._asked.clear()
            self._forget(ids)
            self._ids += ids
            self._hashes += hashes
            self._alive = np.append(self._alive, np.ones(len(ids), dtype=bool))
            self._row.update(zip(ids, range(first, len(self._ids)), strict=True))
            lengths = [len(vector) for vector in vectors]
            self._segments.append(
                _Segment.of(
                    np.concatenate([vector.indices for vector in vectors]),
                    np.repeat(np.arange(first, first + len(ids), dtype=np.int32), lengths),
                    np.concatenate([vector.values for vector in vectors]),
                )
            )
            while len(self._segments) > 1 and 2 * len(self._segments[-1].rows) >= len(self._segments[-2].rows):
                self._merge(2)
            if len(self._ids) > 2 * len(self._row) + 1000:
                self._compact()

    def remove(self, ids: Iterable[str]) -> None:
        """Forgets records; ids that are not there do not matter."""
        with self._lock:
            self._forget(ids)

    def hashes(self, ids: Iterable[str] | None = None) -> dict[str, str]:
        """The hashes of these records, as far as they are there, or of all."""
        with self._lock:
            rows = self._row if ids is None else {i: self._row[i] for i in ids if i in self._row}
            return {i: self._hashes[row] for i, row in rows.items()}

    def best(self, query: SparseVector, limit: int, among: Collection[str] | None) -> dict[str, float]:
        """The best records that have a token of the query.

        Args:
            query: to be matched.
            limit: the most records.
            among: only these; `None` is all.
        """
        with self._lock:
            scores, matched = self._scores(query)
            matched = matched & self._alive
            if among is not None:
                wanted = np.zeros(len(self._ids), dtype=bool)
                wanted[[self._row[i] for i in among if i in self._row]] = True
                matched &= wanted
            rows = np.flatnonzero(matched)
            if len(rows) > limit:
                rows = rows[np.argpartition(-scores[rows], limit - 1)[:limit]]
            return {self._ids[row]: float(scores[row]) for row in rows}

    def scores(self, query: SparseVector, ids: Iterable[str]) -> dict[str, float]:
        """The scores of these records, as far as they are there; 0 without a token in common."""
        with self._lock:
            scores, _ = self._scores(query)
            return {i: float(scores[row]) for i in ids if (row := self._row.get(i)) is not None}

    def _scores(self, query: SparseVector) -> tuple[_Floats, _Flags]:
        """Of every row, dead ones too, and whether it has a token of the query.

        Remembered: who asks for the best records asks for the scores of others next.
        """
        if (known := self._asked.get(id(query))) is not None and known[0] is query:
            return known[1], known[2]
        scores, matched = np.zeros(len(self._ids), dtype=np.float32), np.zeros(len(self._ids), dtype=bool)
        for segment in self._segments:
            segment.add_scores(query, scores, matched)
        if len(self._asked) >= _REMEMBERED:
            del self._asked[next(iter(self._asked))]
        self._asked[id(query)] = query, scores, matched
        return scores, matched

    def _forget(self, ids: Iterable[str]) -> None:
        for i in ids:
            if (row := self._row.pop(i, None)) is not None:
                self._alive[row] = False

    def _merge(self, last: int) -> None:
        """Makes one of the last segments, without dead rows."""
        parts = [segment.postings() for segment in self._segments[-last:]]
        tokens, rows, weights = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        kept = self._alive[rows]
        self._segments[-last:] = [_Segment.of(tokens[kept], rows[kept], weights[kept])]

    def _compact(self) -> None:
        """Gives the rows that are alive new numbers."""
        self._merge(len(self._segments))
        old = np.flatnonzero(self._alive)
        number = np.cumsum(self._alive, dtype=np.int32) - 1
        tokens, rows, weights = self._segments[0].postings()
        self._segments = [_Segment.of(tokens, number[rows], weights)]
        self._ids, self._hashes = [self._ids[row] for row in old], [self._hashes[row] for row in old]
        self._alive = np.ones(len(old), dtype=bool)
        self._row = {i: row for row, i in enumerate(self._ids)}
