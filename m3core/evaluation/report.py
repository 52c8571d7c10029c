"""One table for all of a model's modes on one judged set, beside BM25."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from m3core.evaluation.beir import JudgedSet
from m3core.evaluation.bm25 import BM25
from m3core.evaluation.candidates import Candidates
from m3core.evaluation.metrics import DEPTH, METRICS, bootstrap_interval, measure, parse_metrics
from m3core.fusion import WeightedSum, fuse
from m3core.output import M3Output, Mode
from m3core.scoring import mode_scores

_QUERY_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Report:
    """What each system scored on each query.

    Attributes:
        judged: the set.
        values: system → metric → array `(queries,)`. Systems are the model's modes, `"hybrid"`, and `"bm25"`.
        candidates: what other weights than the model's can choose from, for `fit_weights`.
    """

    judged: JudgedSet
    values: dict[str, dict[str, npt.NDArray[np.float64]]]
    candidates: Candidates

    @property
    def systems(self) -> list[str]:
        """The systems, in the order of a table's rows."""
        return list(self.values)

    def groups(self, key: str) -> dict[str, npt.NDArray[np.bool_]]:
        """Which queries have which value of a metadata key, `"kind"` say; as masks over the queries."""
        labels = np.array([str(m.get(key, "")) for m in self.judged.queries.metadata])
        return {label: labels == label for label in dict.fromkeys(labels.tolist()) if label}

    def mean(self, system: str, metric: str = "nDCG@10", *, where: npt.NDArray[np.bool_] | None = None) -> float:
        """The mean of a metric over the queries, or those of a mask."""
        return float(self._of(system, metric, where).mean())

    def interval(
        self, system: str, metric: str = "nDCG@10", *, where: npt.NDArray[np.bool_] | None = None
    ) -> tuple[float, float]:
        """The 95 % bootstrap interval of `mean`."""
        return bootstrap_interval(self._of(system, metric, where))

    def advantage(
        self, system: str, other: str, metric: str = "nDCG@10", *, where: npt.NDArray[np.bool_] | None = None
    ) -> tuple[float, float]:
        """The 95 % paired bootstrap interval of how much better `system` is than `other`."""
        return bootstrap_interval(self._of(system, metric, where) - self._of(other, metric, where))

    def _of(self, system: str, metric: str, where: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.float64]:
        values = self.values[system][metric]
        return values if where is None else values[where]


class Encodes(Protocol):
    """What is asked of a model: `M3Encoder` has it, and so has a model that is being trained."""

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What it can represent a text as."""
        ...

    @property
    def score_weights(self) -> tuple[float, float, float]:
        """For (dense, sparse, multi-vector) in the hybrid score."""
        ...

    def encode_documents(self, texts: Iterable[str], *, show_progress: bool = False) -> M3Output:
        """The representations of passages."""
        ...

    def encode_queries(self, texts: Iterable[str], *, show_progress: bool = False) -> M3Output:
        """The representations of queries."""
        ...


def evaluate(
    encoder: Encodes,
    judged: JudgedSet,
    *,
    metrics: Sequence[str] = METRICS,
    bm25: bool = True,
    show_progress: bool = False,
) -> Report:
    """Ranks the whole corpus for every query by each of the model's modes, by the default hybrid score, and by BM25.

    The corpus is encoded once, and held in memory with all modes.

    Args:
        encoder: the model.
        judged: from `load_beir`.
        metrics: `nDCG@k`, `MRR@k`, `Recall@k`; k up to 100.
        bm25: whether to rank by BM25 as well.
        show_progress: whether to show progress bars.

    Raises:
        MissingDependency: the extra `eval` is not installed.
    """
    parse_metrics(metrics)  # what is wrong shows before hours of encoding
    lexical = BM25(judged.corpus.texts) if bm25 else None
    documents = encoder.encode_documents(judged.corpus.texts, show_progress=show_progress)
    queries = encoder.encode_queries(judged.queries.texts, show_progress=show_progress)
    runs: dict[str, dict[str, dict[str, float]]] = {}
    candidates = []
    for start in range(0, len(queries), _QUERY_BLOCK):
        block = queries[start : start + _QUERY_BLOCK]
        ids = judged.queries.ids[start : start + _QUERY_BLOCK]
        by_mode = {mode: mode_scores(block, documents, mode) for mode in encoder.modes}
        scores: dict[str, npt.NDArray[np.floating]] = dict(by_mode.items())
        if len(by_mode) > 1:
            scores["hybrid"] = fuse(by_mode, WeightedSum(*encoder.score_weights))
        if lexical is not None:
            scores["bm25"] = lexical.score(judged.queries.texts[start : start + _QUERY_BLOCK])
        best = {system: _best(matrix) for system, matrix in scores.items()}
        for system, matrix in scores.items():
            runs.setdefault(system, {}).update(_run(matrix, best[system], ids, judged.corpus.ids))
        candidates.append(Candidates.gather(judged, ids, by_mode, {mode: best[mode] for mode in by_mode}))
    values = {name: measure(run, judged.qrels, judged.queries.ids, metrics) for name, run in runs.items()}
    return Report(judged, values, Candidates.concat(candidates))


def _best(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """The places of the best `DEPTH` in each row, in no order."""
    depth = min(DEPTH, scores.shape[1])
    return np.argpartition(-scores, depth - 1, axis=1)[:, :depth]


def _run(
    scores: npt.NDArray[np.floating],
    best: npt.NDArray[np.int64],
    queries: Sequence[str],
    documents: Sequence[str],
) -> Iterable[tuple[str, dict[str, float]]]:
    for query, row, places in zip(queries, scores, best, strict=True):
        yield query, {documents[i]: float(row[i]) for i in places}
