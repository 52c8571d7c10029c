"""What exact searches of the store benchmark's corpus find, and how much of it a system has found."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array
from stores_data import LOW, VOCABULARY, Array, Corpus, Query, Sparse

K, CANDIDATES = 10, 50
_CLOSE = {"dense": 1e-5, "sparse": 1e-3, "sum": 1e-3}  # of a score: stores may keep weights as float16


class Truth:
    """The scores of all records, by each mode, for each query."""

    def __init__(self, corpus: Corpus, count: int) -> None:
        queries = corpus.queries(count)
        dense_queries = np.stack([query.dense for query in queries])
        sparse_queries = _matrix([query.sparse for query in queries]).T.tocsc()
        dense, sparse, groups, numbers = [], [], [], []
        for block in corpus.blocks():
            dense.append(block.dense @ dense_queries.T)
            sparse.append((_matrix(block.sparse) @ sparse_queries).toarray())
            groups += block.groups
            numbers += block.numbers
        self._dense, self._sparse = (np.concatenate(parts).T.astype(np.float32) for parts in (dense, sparse))
        self._groups, self._numbers = np.array(groups), np.array(numbers)
        self._queries = queries

    def recall(self, fusion: str | None, workload: str, found: list[list[int]]) -> float | None:
        """The share of the best 10 that were found; other records that score as much count too.

        Args:
            fusion: `"sum"` of both modes' scores, as our stores do; `"dense"` alone; `None` says nothing of what is
                hybrid.
            workload: one of `WORKLOADS`.
            found: numbers of records by query, of the first queries.
        """
        if fusion is None and workload not in ("dense", "sparse"):
            return None
        modes = workload if fusion is None or workload in ("dense", "sparse") else fusion
        shares = []
        for query, rows in zip(self._queries, found, strict=False):
            scores = self._scores(query, modes, self._matching(query, workload))
            best = np.sort(scores)[::-1][:K]
            best = best[best > -np.inf]
            enough = best[-1] - _CLOSE[modes] * abs(best[-1])
            shares.append(min(1.0, (scores[list(set(rows))] >= enough).sum() / len(best)))
        return float(np.mean(shares))

    def _matching(self, query: Query, workload: str) -> Array:
        if workload == "group":
            return self._groups == query.group
        return self._numbers < (LOW if workload == "number" else np.inf)

    def _scores(self, query: Query, modes: str, matching: Array) -> Array:
        """Of all records; -inf of those that are no candidates."""
        dense, sparse = (np.where(matching, held[query.number], -np.inf) for held in (self._dense, self._sparse))
        sparse[sparse == 0] = -np.inf  # no token in common
        if modes == "dense":
            return dense
        if modes == "sparse":
            return sparse
        proposed = _best(dense) | _best(sparse)
        return np.where(proposed, dense + self._sparse[query.number], -np.inf)


def _best(scores: Array) -> Array:
    """Which are among the best `CANDIDATES`."""
    least = np.sort(scores)[-min(CANDIDATES, len(scores))]
    return (scores >= least) & (scores > -np.inf)


def _matrix(vectors: list[Sparse]) -> Any:
    indices, values = (np.concatenate(arrays) for arrays in zip(*vectors, strict=True))
    ends = np.cumsum([0, *(len(ids) for ids, _ in vectors)])
    return csr_array((values, indices, ends), shape=(len(vectors), VOCABULARY))
