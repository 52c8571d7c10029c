"""Maximal marginal relevance: hits that say what the hits before them do not (Carbonell & Goldstein, SIGIR 1998)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from m3core import RRF, Fusion, M3Output, Mode, WeightedSum
from m3core.output import MODES, FloatArray
from m3core.scoring import mode_scores


def mmr_order(relevance: npt.NDArray[np.floating], vectors: FloatArray, balance: float, k: int) -> list[int]:
    """The order of maximal marginal relevance: each next one has the best balance·relevance − (1 − balance)·similarity.

    Args:
        relevance: `(n,)`, on the scale of cosines.
        vectors: `(n, d)`; the similarity to what was chosen before is the largest cosine.
        balance: λ, from 0 (only what differs) to 1 (only what is relevant).
        k: how many to choose.

    Returns:
        Up to `k` places in `relevance`; of equal ones the first comes first.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(norms > 0, norms, 1.0)
    closest = np.zeros(len(relevance))
    left = np.ones(len(relevance), dtype=bool)
    order: list[int] = []
    while len(order) < min(k, len(relevance)):
        gain = np.where(left, balance * relevance - (1 - balance) * closest, -np.inf)
        best = int(gain.argmax())
        similarity = units @ units[best]
        closest = similarity if not order else np.maximum(closest, similarity)
        left[best] = False
        order.append(best)
    return order


def own_score(query: M3Output, fusion: Fusion, modes: Sequence[Mode]) -> float:
    """The fused score that a query's own text would get, or by ranks one that is first by each mode: a full score.

    Args:
        query: of one text.
        fusion: of the scores.
        modes: that score.
    """
    match fusion:
        case WeightedSum():
            full = sum(getattr(fusion, mode) * float(mode_scores(query, query, mode)[0, 0]) for mode in modes)
        case RRF():
            weights = fusion.weights or (1.0, 1.0, 1.0)
            full = sum(weights[MODES.index(mode)] for mode in modes) / (fusion.k + 1)
        case _:
            full = float(len(modes))
    return full if full > 0 else 1.0
