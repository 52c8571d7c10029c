"""LlamaIndex's queries as searches of `m3stores`."""

from dataclasses import dataclass
from typing import Any

from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from llama_index.vector_stores.m3.filters import filter_of
from llama_index.vector_stores.m3.nodes import REF_DOC
from m3core import Fusion, InvalidInput, Mode, WeightedSum

_OPTIONS = ("candidates", "fusion", "mmr_prefetch_factor", "mmr_prefetch_k", "mmr_threshold")
_MMR_BALANCE, _MMR_CANDIDATES = 0.5, 4.0  # LlamaIndex's own: λ, and candidates for each node of the result


@dataclass(frozen=True)
class Search:
    """What to search for.

    Attributes:
        modes: which propose candidates.
        options: of `HybridStore.search`, `modes` included.
    """

    modes: tuple[Mode, ...]
    options: dict[str, Any]

    @property
    def needed(self) -> tuple[Mode, ...]:
        """The modes that the query's representation needs."""
        return (*self.modes, "multivector") if self.options["rerank"] else self.modes


def search_of(query: VectorStoreQuery, weights: tuple[float, float, float], **more: Any) -> Search:
    """The search that a query means.

    Args:
        query: LlamaIndex's.
        weights: of the model, for (dense, sparse, multi-vector).
        more: `vector_store_kwargs` of the retriever.

    Raises:
        InvalidInput: a mode, an alpha, an option or a filter that there is not.
    """
    unknown = sorted(set(more) - set(_OPTIONS))
    if unknown:
        raise InvalidInput(f"vector_store_kwargs takes {', '.join(_OPTIONS)}, not {', '.join(unknown)}")
    modes: tuple[Mode, ...]
    fusion, rerank, balance = more.get("fusion"), False, None
    k, candidates = query.similarity_top_k, more.get("candidates")
    match query.mode:
        case VectorStoreQueryMode.DEFAULT:
            modes = ("dense",)
        case VectorStoreQueryMode.SPARSE:
            modes, k = ("sparse",), query.sparse_top_k or k
        case VectorStoreQueryMode.HYBRID | VectorStoreQueryMode.SEMANTIC_HYBRID:
            k = query.hybrid_top_k or k
            rerank = query.mode == VectorStoreQueryMode.SEMANTIC_HYBRID
            modes, weighted = _mixed(query.alpha, weights)
            fusion = fusion or weighted
            if query.sparse_top_k or query.hybrid_top_k:  # then similarity_top_k is the number of dense candidates
                candidates = candidates or max(query.sparse_top_k or 0, query.similarity_top_k, k)
        case VectorStoreQueryMode.MMR:
            asked = query.mmr_threshold if query.mmr_threshold is not None else more.get("mmr_threshold")
            modes, balance = ("dense",), _MMR_BALANCE if asked is None else asked
            if {"mmr_prefetch_k", "mmr_prefetch_factor"} <= set(more):
                raise InvalidInput("give either mmr_prefetch_k or mmr_prefetch_factor, not both")
            prefetched = more.get("mmr_prefetch_k") or int(more.get("mmr_prefetch_factor", _MMR_CANDIDATES) * k)
            candidates = candidates or max(k, prefetched)
        case other:
            raise InvalidInput(
                f"there is no query mode {VectorStoreQueryMode(other).value!r} here, but default (dense), sparse, "
                "hybrid, semantic_hybrid (hybrid, reranked by multi-vectors) and mmr"
            )
    options = {"k": k, "modes": modes, "rerank": rerank, "fusion": fusion, "candidates": candidates, "mmr": balance}
    return Search(
        modes, options | {"filter": _filter(query), "ids": query.node_ids or None}
    )  # an index gives an empty list for all


def _mixed(alpha: float | None, weights: tuple[float, float, float]) -> tuple[tuple[Mode, ...], Fusion | None]:
    """The modes that count, and how: dense by α and sparse by 1 − α, relative to the model's own sum, which is 0.5."""
    if alpha is None:
        return ("dense", "sparse"), None
    if not 0 <= alpha <= 1:
        raise InvalidInput(f"alpha must be between 0 (sparse only) and 1 (dense only), not {alpha!r}")
    dense, sparse, multivector = weights
    most = max(alpha, 1 - alpha)  # the larger one counts in full, so that scores stay on one scale
    fusion = WeightedSum(alpha / most * dense, (1 - alpha) / most * sparse, multivector)
    modes: tuple[tuple[Mode, float], ...] = (("dense", alpha), ("sparse", 1 - alpha))
    return tuple(mode for mode, share in modes if share), fusion


def _filter(query: VectorStoreQuery) -> Any:
    parts = [filter_of(query.filters)]
    if query.doc_ids:
        parts.append({REF_DOC: {"$in": list(query.doc_ids)}})
    given = [part for part in parts if part is not None]
    return {"$and": given} if len(given) > 1 else given[0] if given else None
