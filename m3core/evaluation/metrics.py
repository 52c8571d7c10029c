"""nDCG, MRR and recall by ir-measures (trec_eval's definitions), and bootstrap intervals of their means."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from m3core.errors import InvalidInput, MissingDependency

METRICS = ("nDCG@10", "MRR@10", "Recall@100")
DEPTH = 100
"""How many results of a query are looked at."""

_FAMILIES = {"nDCG": "nDCG", "MRR": "RR", "Recall": "R"}


def measure(
    run: Mapping[str, Mapping[str, float]],
    qrels: Mapping[str, Mapping[str, int]],
    queries: Sequence[str],
    metrics: Sequence[str] = METRICS,
) -> dict[str, npt.NDArray[np.float64]]:
    """What each query scores. nDCG takes grades as gains; a query with no result scores 0.

    Args:
        run: query id → passage id → score.
        qrels: query id → passage id → grade.
        queries: the query ids, in the order of the result.
        metrics: `nDCG@k`, `MRR@k` and `Recall@k`, k up to `DEPTH`.

    Returns:
        Per metric an array `(len(queries),)`.

    Raises:
        InvalidInput: an unknown metric.
        MissingDependency: ir-measures is not installed.
    """
    parsed = parse_metrics(metrics)
    import ir_measures

    places = {query: i for i, query in enumerate(queries)}
    values = {metric: np.zeros(len(queries)) for metric in metrics}
    for value in ir_measures.iter_calc(list(parsed), qrels, run):
        if value.query_id in places:
            values[parsed[value.measure]][places[value.query_id]] = value.value
    return values


def parse_metrics(metrics: Sequence[str]) -> dict[Any, str]:
    """ir-measures' objects for the metrics, each with the name it was asked for by. See `measure`."""
    try:
        import ir_measures
    except ImportError as error:
        raise MissingDependency("metrics need ir-measures: pip install 'm3-retrieval[eval]'") from error
    parsed = {}
    for metric in metrics:
        family, _, cut = metric.partition("@")
        if family not in _FAMILIES or not cut.isdecimal() or not 1 <= int(cut) <= DEPTH:
            raise InvalidInput(f"unknown metric {metric!r}; use nDCG@k, MRR@k or Recall@k with k from 1 to {DEPTH}")
        parsed[ir_measures.parse_measure(f"{_FAMILIES[family]}@{int(cut)}")] = metric
    return parsed


def bootstrap_interval(
    values: npt.ArrayLike, *more: npt.ArrayLike, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean over queries (Sakai, SIGIR 2006).

    For the paired comparison of two systems give the differences query by query: one is better than the other if the
    interval lies above 0.

    Args:
        values: `(n,)`, one a query.
        more: those of other sets, of any lengths: the interval is of the mean of all sets' means, each resampled alone.
        confidence: the share of resamples inside.
        seed: of the resampling.

    Returns:
        The lower and the upper bound.
    """
    from scipy.stats import bootstrap

    arrays = [np.asarray(given, dtype=np.float64) for given in (values, *more)]
    if not any(map(np.ptp, arrays)):  # all equal: no resample differs
        mean = float(np.mean([array[0] for array in arrays]))
        return mean, mean
    result = bootstrap(
        arrays, _mean_of_means, confidence_level=confidence, method="percentile", vectorized=True, rng=seed
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _mean_of_means(*arrays: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    return np.asarray(sum(array.mean(axis=axis) for array in arrays) / len(arrays))
