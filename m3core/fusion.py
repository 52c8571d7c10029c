"""Fusion: one score of those that the modes gave to the same candidates. Nothing here loads torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3core.errors import InvalidInput
from m3core.output import MODES, Mode

Weights = tuple[float, float, float]


@dataclass(frozen=True)
class WeightedSum:
    """Fusion by Σ w·score, BGE-M3's own. Weights are for dense, sparse, multi-vector, in this order."""

    dense: float
    sparse: float
    multivector: float = 0.0


@dataclass(frozen=True)
class RRF:
    """Reciprocal rank fusion: Σ w / (k + rank), ranks from 1 (Cormack et al., SIGIR 2009).

    Attributes:
        k: how little the first ranks stand out.
        weights: for (dense, sparse, multi-vector); `None` is 1 for each.
    """

    k: int = 60
    weights: Weights | None = None

    def __post_init__(self) -> None:
        if self.k < 0:
            raise InvalidInput(f"RRF's k must not be negative, as {self.k} is")
        if self.weights is not None:
            checked_weights(self.weights)


@dataclass(frozen=True)
class DBSF:
    """Distribution-based score fusion: each mode's scores are scaled so that mean ± 3σ is 0…1, then summed."""


Fusion = WeightedSum | RRF | DBSF


def fuse(scores: Mapping[Mode, npt.ArrayLike], fusion: Fusion) -> npt.NDArray[np.float64]:
    """Fuses the scores that each mode gave to the same candidates: the sum of their `shares`.

    Args:
        scores: per mode an array `(..., n)`, the candidates along the last axis; NaN where a mode did not score a
            candidate, which then adds nothing. Every leading axis (one query a row, say) is fused on its own.
        fusion: `WeightedSum`, `RRF` or `DBSF`. A weight for a mode that is not in `scores` has no effect.

    Returns:
        `(..., n)` float64, larger is better.

    Raises:
        InvalidInput: no mode, an unknown one, infinite scores, or arrays of different shapes.
    """
    return total(shares(scores, fusion))


def shares(scores: Mapping[Mode, npt.ArrayLike], fusion: Fusion) -> dict[Mode, npt.NDArray[np.float64]]:
    """What each mode adds to the fused score. The arguments and errors are those of `fuse`.

    Returns:
        Per mode an array `(..., n)` float64; 0 where it did not score a candidate.
    """
    if not scores or not set(scores) <= set(MODES):
        raise InvalidInput(f"fuse takes scores for some of {', '.join(MODES)}, not for {list(scores)}")
    arrays = {mode: np.asarray(given, dtype=np.float64) for mode, given in scores.items()}
    shapes = {values.shape for values in arrays.values()}
    if len(shapes) != 1 or shapes == {()} or any(np.isinf(values).any() for values in arrays.values()):
        raise InvalidInput(f"all modes must score the same candidates, with finite scores or NaN; shapes {shapes}")
    parts: dict[Mode, npt.NDArray[np.float64]] = {}
    for mode, values in arrays.items():
        match fusion:
            case WeightedSum():
                part = getattr(fusion, mode) * values
            case RRF():
                weight = 1.0 if fusion.weights is None else fusion.weights[MODES.index(mode)]
                part = weight / (fusion.k + ranks(values))
            case DBSF():
                part = _spread(values)
            case _:
                raise InvalidInput(f"fusion must be a WeightedSum, RRF or DBSF object, not {fusion!r}")
        parts[mode] = np.where(np.isnan(part), 0.0, part)
    return parts


def total(parts: Mapping[Mode, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The fused score, of `shares`."""
    summed: npt.NDArray[np.float64] = np.add.reduce(list(parts.values()))
    return summed


def ranks(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Ranks from 1, best first, along the last axis. Equal scores share the better rank; NaN stays NaN.

    Args:
        scores: `(..., n)`.

    Returns:
        `(..., n)` float64.
    """
    order = np.argsort(-scores, axis=-1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=-1)
    places = np.broadcast_to(np.arange(1, scores.shape[-1] + 1), scores.shape)
    is_new = np.ones(scores.shape, dtype=bool)
    is_new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    shared = np.maximum.accumulate(np.where(is_new, places, 0), axis=-1)
    result = np.empty(scores.shape, dtype=np.float64)
    np.put_along_axis(result, order, shared.astype(np.float64), axis=-1)
    result[np.isnan(scores)] = np.nan
    return result


def _spread(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(s − (μ − 3σ)) / 6σ with the sample's σ; 0.5 where all scores are equal, as Qdrant defines it."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1, keepdims=True)
    mean = np.where(known, values, 0.0).sum(axis=-1, keepdims=True) / np.maximum(count, 1)
    deviation = np.where(known, values - mean, 0.0)
    sigma = np.sqrt((deviation**2).sum(axis=-1, keepdims=True) / np.maximum(count - 1, 1))
    low = np.where(known, values, np.inf).min(axis=-1, keepdims=True, initial=np.inf)
    high = np.where(known, values, -np.inf).max(axis=-1, keepdims=True, initial=-np.inf)
    spread = np.where(high > low, deviation / np.where(sigma > 0, 6 * sigma, 1.0), 0.0)
    return np.where(known, 0.5 + spread, np.nan)


def checked_weights(weights: Sequence[float]) -> Sequence[float]:
    """The weights, if there is one for each of the modes."""
    if len(weights) != len(MODES) or not np.isfinite(weights).all():
        raise InvalidInput(f"weights are three numbers, for {', '.join(MODES)}, not {weights!r}")
    return weights
