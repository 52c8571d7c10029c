"""Scores between queries and documents (dense, lexical, MaxSim, hybrid), and the fusion of per-mode scores.

The formulas are those of BGE-M3 (arXiv 2402.03216, section 3.2). Nothing here loads torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from m3core.errors import InvalidInput, UnsupportedMode
from m3core.output import MODES, FloatArray, M3Output, Mode, SparseVector

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Weights = tuple[float, float, float]

_BLOCK_TOKENS = 1024  # query tokens at a time in MaxSim
_BLOCK_CELLS = 1 << 23  # query tokens x document tokens at a time in MaxSim: 32 MB of float32


def lexical_scores(queries: Sequence[SparseVector], documents: Sequence[SparseVector]) -> FloatArray:
    """The lexical matching score of each pair: the sum over shared tokens of the product of their weights.

    Returns:
        `(len(queries), len(documents))` float32.
    """
    vocabulary = 1 + max((int(v.indices[-1]) for v in (*queries, *documents) if len(v)), default=0)
    product = _csr(queries, vocabulary) @ _csr(documents, vocabulary).T
    return np.asarray(product.toarray(), dtype=np.float32)


def maxsim_scores(queries: Sequence[FloatArray], documents: Sequence[FloatArray]) -> FloatArray:
    """Late-interaction MaxSim of each pair: the mean over the query's rows of the best dot product in the document.

    A query or document with no rows scores 0.

    Args:
        queries: arrays `(t, d)` float32.
        documents: arrays `(t, d)` float32.

    Returns:
        `(len(queries), len(documents))` float32.
    """
    scores = np.zeros((len(queries), len(documents)), dtype=np.float32)
    for query_block in _blocks(queries, _BLOCK_TOKENS):
        query_rows = np.concatenate([queries[i] for i in query_block])
        query_starts, query_lengths = _segments([queries[i] for i in query_block])
        for block in _blocks(documents, max(1, _BLOCK_CELLS // len(query_rows))):
            starts, _ = _segments([documents[i] for i in block])
            similarity = np.concatenate([documents[i] for i in block]) @ query_rows.T
            best = np.maximum.reduceat(similarity, starts, axis=0)
            sums = np.add.reduceat(best, query_starts, axis=1)
            scores[np.ix_(query_block, block)] = (sums / query_lengths).T
    return scores


def score(queries: M3Output, documents: M3Output, *, weights: Weights | None = None) -> FloatArray:
    """The hybrid score of each pair, the weighted sum of the modes. See `M3Output.score`."""
    common = [mode for mode in queries.modes if mode in documents.modes]
    if weights is not None:
        asked = [mode for mode, w in zip(MODES, _checked_weights(weights), strict=True) if w]
        missing = [mode for mode in asked if mode not in common]
        if missing:
            raise UnsupportedMode(
                f"a weight was given for {', '.join(missing)}, but queries have {', '.join(queries.modes)} and "
                f"documents have {', '.join(documents.modes)}; encode both with that mode, or set its weight to 0"
            )
    if not common:
        raise UnsupportedMode(
            f"queries have {', '.join(queries.modes)} and documents have {', '.join(documents.modes)}: "
            "no mode in common to score by"
        )
    total = WeightedSum(*(queries.score_weights if weights is None else weights))
    used = [mode for mode in common if getattr(total, mode)] or common
    return fuse({mode: mode_scores(queries, documents, mode) for mode in used}, total).astype(np.float32)


def mode_scores(queries: M3Output, documents: M3Output, mode: Mode) -> FloatArray:
    """The scores of every pair by one mode.

    Returns:
        `(len(queries), len(documents))` float32.

    Raises:
        UnsupportedMode: either side lacks the mode.
        InvalidInput: the two come from different models, as their fingerprints or the vectors' widths say.
    """
    _check_comparable(queries, documents)
    if mode == "dense" and queries.dense is not None and documents.dense is not None:
        _same_width(queries.dense, documents.dense)
        return queries.dense @ documents.dense.T
    if mode == "sparse" and queries.sparse is not None and documents.sparse is not None:
        return lexical_scores(queries.sparse, documents.sparse)
    if mode == "multivector" and queries.multivector is not None and documents.multivector is not None:
        if len(queries) and len(documents):
            _same_width(queries.multivector[0], documents.multivector[0])
        return maxsim_scores(queries.multivector, documents.multivector)
    raise UnsupportedMode(f"cannot score by {mode}: queries have {queries.modes}, documents have {documents.modes}")


def compute_score(
    queries: M3Output, documents: M3Output, *, weights: Weights = (1.0, 1.0, 1.0)
) -> dict[str, FloatArray]:
    """The scores of aligned pairs, as FlagEmbedding's `compute_score` returns them: sums are divided by their weights.

    Args:
        queries: n texts with all three modes.
        documents: n texts with all three modes; document i is scored against query i.
        weights: for (dense, sparse, multi-vector).

    Returns:
        `(n,)` float32 under each of `"dense"`, `"sparse"`, `"colbert"`, `"sparse+dense"` and
        `"colbert+sparse+dense"`.

    Raises:
        InvalidInput: the two have different lengths.
        UnsupportedMode: either side lacks a mode.
    """
    if len(queries) != len(documents):
        raise InvalidInput(f"compute_score takes aligned pairs, not {len(queries)} queries and {len(documents)} texts")
    pairs = list(zip(queries, documents, strict=True))
    dense, sparse, multi = (
        np.array([mode_scores(q, d, mode)[0, 0] for q, d in pairs], dtype=np.float32) for mode in MODES
    )
    w_dense, w_sparse, w_multi = weights
    both = w_dense * dense + w_sparse * sparse
    with np.errstate(invalid="ignore"):  # weights of zero give NaN, as in FlagEmbedding
        return {
            "colbert": multi,
            "sparse": sparse,
            "dense": dense,
            "sparse+dense": (both / np.float32(w_dense + w_sparse)).astype(np.float32),
            "colbert+sparse+dense": ((both + w_multi * multi) / np.float32(sum(weights))).astype(np.float32),
        }


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
            _checked_weights(self.weights)


@dataclass(frozen=True)
class DBSF:
    """Distribution-based score fusion: each mode's scores are scaled so that mean ± 3σ is 0…1, then summed."""


Fusion = WeightedSum | RRF | DBSF


def fuse(scores: Mapping[Mode, npt.ArrayLike], fusion: Fusion) -> npt.NDArray[np.float64]:
    """Fuses the scores that each mode gave to the same candidates.

    Args:
        scores: per mode an array `(..., n)`, the candidates along the last axis; NaN where a mode did not score a
            candidate, which then adds nothing. Every leading axis (one query a row, say) is fused on its own.
        fusion: `WeightedSum`, `RRF` or `DBSF`. A weight for a mode that is not in `scores` has no effect.

    Returns:
        `(..., n)` float64, larger is better.

    Raises:
        InvalidInput: no mode, an unknown one, infinite scores, or arrays of different shapes.
    """
    if not scores or not set(scores) <= set(MODES):
        raise InvalidInput(f"fuse takes scores for some of {', '.join(MODES)}, not for {list(scores)}")
    arrays = {mode: np.asarray(given, dtype=np.float64) for mode, given in scores.items()}
    shapes = {values.shape for values in arrays.values()}
    if len(shapes) != 1 or shapes == {()} or any(np.isinf(values).any() for values in arrays.values()):
        raise InvalidInput(f"all modes must score the same candidates, with finite scores or NaN; shapes {shapes}")
    total = np.zeros(shapes.pop(), dtype=np.float64)
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
        total += np.where(np.isnan(part), 0.0, part)
    return total


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


def _csr(vectors: Sequence[SparseVector], width: int) -> "csr_array":
    from scipy.sparse import csr_array

    pointers = np.concatenate([[0], np.cumsum([len(v) for v in vectors], dtype=np.int64)])
    if not len(vectors):
        return csr_array((0, width), dtype=np.float32)
    indices = np.concatenate([v.indices for v in vectors])
    values = np.concatenate([v.values for v in vectors])
    return csr_array((values, indices, pointers), shape=(len(vectors), width))


def _blocks(arrays: Sequence[FloatArray], budget: int) -> Iterator[list[int]]:
    """Indices of consecutive non-empty arrays, as many at a time as have `budget` rows together."""
    block: list[int] = []
    rows = 0
    for i, array in enumerate(arrays):
        if not len(array):
            continue
        if block and rows + len(array) > budget:
            yield block
            block, rows = [], 0
        block.append(i)
        rows += len(array)
    if block:
        yield block


def _segments(arrays: Sequence[FloatArray]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    return np.cumsum(lengths) - lengths, lengths


def _check_comparable(a: M3Output, b: M3Output) -> None:
    """Same model, as far as fingerprints tell. Maximum length, instruction and MCLS may differ on the two sides."""
    if a.fingerprint is None or b.fingerprint is None:
        return
    for what in ("model", "revision", "pooling", "normalize"):
        ours, theirs = getattr(a.fingerprint, what), getattr(b.fingerprint, what)
        if ours != theirs:
            raise InvalidInput(
                f"outputs of different models cannot be compared ({what} {ours!r} and {theirs!r}): "
                "encode both sides with the same encoder"
            )


def _same_width(a: FloatArray, b: FloatArray) -> None:
    if a.shape[1] != b.shape[1]:
        raise InvalidInput(
            f"vectors {a.shape[1]} and {b.shape[1]} wide cannot be compared: encode both sides with the same model"
        )


def _checked_weights(weights: Sequence[float]) -> Sequence[float]:
    if len(weights) != len(MODES):
        raise InvalidInput(f"weights are three, for {', '.join(MODES)}, not {weights!r}")
    return weights
