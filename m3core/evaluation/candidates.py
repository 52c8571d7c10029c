"""What a fusion of modes chooses from, kept small: for each query the best passages of every mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3core.evaluation.beir import JudgedSet
from m3core.fusion import Weights
from m3core.output import MODES, FloatArray, Mode

_K = 10
_DISCOUNTS = 1 / np.log2(np.arange(_K) + 2)


@dataclass(frozen=True, eq=False)
class Candidates:
    """For each query the passages that any mode ranks high, what each mode gives them, and how they are judged.

    With weights from 0 on, the best of a weighted sum are among them, short of a passage that is below those of every
    mode. Stores search in the same way.

    Attributes:
        name: of the judged set.
        queries: their ids.
        scores: per mode `(queries, width)` float32; NaN in the same places of all modes, where there is no candidate.
        grades: `(queries, width)` float64, 0 being irrelevant.
        ideal: `(queries,)` float64, the DCG@10 of the best ranking that there is, of any passages.
    """

    name: str
    queries: list[str]
    scores: Mapping[Mode, FloatArray]
    grades: npt.NDArray[np.float64]
    ideal: npt.NDArray[np.float64]

    @staticmethod
    def gather(
        judged: JudgedSet,
        queries: list[str],
        scores: Mapping[Mode, FloatArray],
        best: Mapping[Mode, npt.NDArray[np.int64]],
    ) -> "Candidates":
        """Takes them from the scores of a whole corpus.

        Args:
            judged: the set.
            queries: ids of some of its queries.
            scores: per mode `(queries, passages)`.
            best: per mode `(queries, depth)`, the places of its best passages.
        """
        places = np.sort(np.concatenate([best[mode] for mode in scores], axis=1), axis=1)
        again = np.zeros(places.shape, dtype=bool)
        again[:, 1:] = places[:, 1:] == places[:, :-1]
        of_passage = {passage: i for i, passage in enumerate(judged.corpus.ids)}
        grades = np.zeros(places.shape)
        for row, query in enumerate(queries):
            for passage, grade in judged.qrels[query].items():
                grades[row, places[row] == of_passage[passage]] = max(grade, 0)
        grades[again] = 0
        kept = {
            mode: np.where(again, np.float32(np.nan), np.take_along_axis(matrix, places, axis=1))
            for mode, matrix in scores.items()
        }
        ranked = [sorted((g for g in judged.qrels[q].values() if g > 0), reverse=True)[:_K] for q in queries]
        ideal = np.array([np.dot(found, _DISCOUNTS[: len(found)]) for found in ranked])
        return Candidates(judged.name, queries, kept, grades, ideal)

    @staticmethod
    def concat(parts: Sequence["Candidates"]) -> "Candidates":
        """Joins those of several queries of one set."""
        first = parts[0]
        return Candidates(
            first.name,
            [query for part in parts for query in part.queries],
            {mode: np.concatenate([part.scores[mode] for part in parts]) for mode in first.scores},
            np.concatenate([part.grades for part in parts]),
            np.concatenate([part.ideal for part in parts]),
        )

    def select(self, where: npt.NDArray[np.bool_]) -> "Candidates":
        """Those of some queries, by a mask."""
        rows = np.flatnonzero(where).tolist()
        return Candidates(
            self.name,
            [self.queries[i] for i in rows],
            {mode: matrix[rows] for mode, matrix in self.scores.items()},
            self.grades[rows],
            self.ideal[rows],
        )

    def ndcg(self, weights: Weights) -> npt.NDArray[np.float64]:
        """nDCG@10 of each query by the weighted sum, as trec_eval defines it: DCG is Σ grade / log2(rank + 1).

        Args:
            weights: for (dense, sparse, multi-vector), from 0 on.

        Returns:
            `(queries,)`; 0 for a query that no passage answers.
        """
        total = np.zeros(self.grades.shape)
        for mode, matrix in self.scores.items():
            total += np.float64(weights[MODES.index(mode)]) * matrix
        total[np.isnan(total)] = -np.inf
        k = min(_K, len(total.T))
        best = np.argpartition(-total, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(total, best, axis=1), axis=1, kind="stable")
        gained = np.take_along_axis(self.grades, np.take_along_axis(best, order, axis=1), axis=1) @ _DISCOUNTS[:k]
        return np.divide(gained, self.ideal, out=np.zeros(len(gained)), where=self.ideal > 0)
