"""Which weights to fuse a model's modes with: found on one half of the judged queries, measured on the other."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from m3core.errors import InvalidInput, UnsupportedMode
from m3core.evaluation.candidates import Candidates
from m3core.evaluation.metrics import bootstrap_interval
from m3core.fusion import Weights
from m3core.output import Mode

_FITTED: tuple[Mode, Mode] = ("sparse", "multivector")
_RANGE = 6  # powers of two, up and down from where a mode's scores spread as dense ones do
_ZERO = -_RANGE - 1.0  # the step below the smallest weight stands for none
_LEAST = 2  # queries in either half; fewer have no standard error

_Point = tuple[float, float]  # sparse, multi-vector: powers of two
_PerSet = list[npt.NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """nDCG@10 of a set's held-out queries.

    Attributes:
        name: the set's.
        before: `(queries,)` with the weights that the model had.
        after: `(queries,)` with those that were found.
    """

    name: str
    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WeightFit:
    """Weights for the hybrid score, and what they are worth on queries that they were not found on.

    Attributes:
        weights: for (dense, sparse, multi-vector); dense is 1, the others have two digits.
        before: the weights that they were compared with.
        dev_queries: how many queries they were found on.
        held_out: the others, set by set.
    """

    weights: Weights
    before: Weights
    dev_queries: int
    held_out: tuple[HeldOut, ...]

    @property
    def gain(self) -> float:
        """How much better the weights are on held-out queries: the mean over sets of the mean over queries."""
        return float(np.mean([(one.after - one.before).mean() for one in self.held_out]))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % paired bootstrap interval of `gain`; queries are drawn within their sets."""
        return bootstrap_interval(*(one.after - one.before for one in self.held_out))


def fit_weights(sets: Sequence[Candidates], before: Weights, *, seed: int = 0) -> WeightFit:
    """Finds the weights of the hybrid score w·(dense, sparse, multi-vector), with dense fixed to 1.

    The objective is the mean over sets of the mean over queries of nDCG@10, on the half of the queries that a hash of
    their id puts into dev, so that queries that several sets share are on one side. A weighted sum needs few of them
    (Bruch et al., arXiv 2210.11934).

    The search goes over powers of two, and zero: first whole ones, then halves where it was good. Around its best point
    the objective is flat, and which point of the plateau is highest is chance; so the result is the middle of the
    plateau, farthest from the slopes on all sides. The plateau is what is within one standard error of the best point
    (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3), here that of the paired difference,
    query by query.

    Args:
        sets: of `evaluate(…).candidates`, all of one model.
        before: the model's weights, to compare with.
        seed: of the hash; another one divides queries otherwise.

    Raises:
        UnsupportedMode: the model has one mode only.
        InvalidInput: no set, or one with fewer than 2 queries in either half.
    """
    if not sets:
        raise InvalidInput("weights are fitted on at least one judged set")
    check_fusable(sets[0].scores)
    halves = [_is_dev(one.queries, seed) for one in sets]
    for one, is_dev in zip(sets, halves, strict=True):
        if not _LEAST <= is_dev.sum() <= len(is_dev) - _LEAST:
            raise InvalidInput(
                f"{one.name} has {len(is_dev)} judged queries, too few for a half to find weights on and one to measure"
            )
    dev = [one.select(is_dev) for one, is_dev in zip(sets, halves, strict=True)]
    units = {mode: _unit(dev, mode) for mode in _FITTED}

    def weights(point: _Point) -> Weights:
        sparse, multi = (0.0 if p == _ZERO else units[m] * 2**p for m, p in zip(_FITTED, point, strict=True))
        return 1.0, float(f"{sparse:.2g}"), float(f"{multi:.2g}")

    found = weights(_middle_of_plateau(units, lambda point: [one.ndcg(weights(point)) for one in dev]))
    rest = [one.select(~is_dev) for one, is_dev in zip(sets, halves, strict=True)]
    held_out = tuple(HeldOut(one.name, one.ndcg(before), one.ndcg(found)) for one in rest)
    return WeightFit(found, before, sum(len(one.queries) for one in dev), held_out)


def check_fusable(modes: Iterable[Mode]) -> None:
    """Raises `UnsupportedMode` unless there are several modes to weigh."""
    if len(list(modes)) < 2:
        raise UnsupportedMode("the model is dense only: there is nothing to fuse. BAAI/bge-m3 and m3-mini have 3 modes")


def _is_dev(queries: Sequence[str], seed: int) -> npt.NDArray[np.bool_]:
    return np.array([hashlib.blake2b(f"{seed}:{q}".encode(), digest_size=8).digest()[0] % 2 == 0 for q in queries])


def _unit(sets: Sequence[Candidates], mode: Mode) -> float:
    """The weight with which a mode's scores spread as much as dense ones do; 0 for one that tells nothing apart."""
    if mode not in sets[0].scores:
        return 0.0
    dense, own = (np.mean([np.nanstd(one.scores[m], axis=1).mean() for one in sets]) for m in ("dense", mode))
    return float(dense / own) if own > 0 and dense > 0 else 0.0


def _middle_of_plateau(units: Mapping[Mode, float], score: Callable[[_Point], _PerSet]) -> _Point:
    whole = [_ZERO, *map(float, range(-_RANGE, _RANGE + 1))]
    axes = [whole if units[mode] else [_ZERO] for mode in _FITTED]
    scores = {(sparse, multi): score((sparse, multi)) for sparse, multi in product(*axes)}
    for sparse, multi in _plateau(scores):
        for point in product(_halves(sparse), _halves(multi)):
            if point not in scores:
                scores[point] = score(point)
    plateau = np.array(_plateau(scores))
    distances = ((plateau - plateau.mean(axis=0)) ** 2).sum(axis=1)
    sparse, multi = plateau[distances.argmin()].tolist()
    return sparse, multi


def _halves(power: float) -> list[float]:
    """A power and those half a step beside it; none is beside zero."""
    return [power] if power == _ZERO else [p for p in (power - 0.5, power, power + 0.5) if abs(p) <= _RANGE]


def _plateau(scores: Mapping[_Point, _PerSet]) -> list[_Point]:
    """The points that are within one standard error of the best one, by the paired difference; ascending."""
    best = max(scores.values(), key=lambda values: np.mean([v.mean() for v in values]))
    return sorted(point for point, values in scores.items() if _is_as_good(values, best))


def _is_as_good(values: _PerSet, best: _PerSet) -> bool:
    differences = [b - v for b, v in zip(best, values, strict=True)]
    variance = sum(float(d.var(ddof=1)) / len(d) for d in differences)
    return bool(np.mean([d.mean() for d in differences]) <= np.sqrt(variance) / len(differences))
