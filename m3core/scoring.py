"""Scores between queries and documents: dense, lexical, MaxSim, hybrid.

The formulas are those of BGE-M3 (arXiv 2402.03216, section 3.2). Nothing here loads torch.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from m3core.errors import InvalidInput, UnsupportedMode
from m3core.fusion import WeightedSum, Weights, checked_weights, fuse
from m3core.output import MODES, FloatArray, M3Output, Mode, SparseVector

if TYPE_CHECKING:
    from scipy.sparse import csr_array

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


def shared_tokens(query: SparseVector, document: SparseVector) -> list[tuple[int, float, float]]:
    """The tokens that add to the lexical score of a pair: their ids in ascending order, and the weights in both."""
    common, ours, theirs = np.intersect1d(query.indices, document.indices, assume_unique=True, return_indices=True)
    return list(zip(common.tolist(), query.values[ours].tolist(), document.values[theirs].tolist(), strict=True))


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
        asked = [mode for mode, w in zip(MODES, checked_weights(weights), strict=True) if w]
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
