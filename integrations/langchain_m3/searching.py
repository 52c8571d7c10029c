"""What the retriever and the vector store have in common: the options of a search, and what its hits say."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from m3core import Fusion, InvalidInput, M3Encoder, M3Output, SparseVector, WeightedSum
from m3core.scoring import shared_tokens
from m3stores import Hit
from m3stores.diversity import own_score

OPTIONS = ("k", "candidates", "fusion", "weights", "rerank", "modes", "filter", "score_threshold")


def merged(defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `TextIndex.search`, of a component's own and those of a call.

    Raises:
        InvalidInput: an option that there is not, or weights beside a fusion, which has its own.
    """
    unknown = sorted(set(overrides) - set(OPTIONS))
    if unknown:
        raise InvalidInput(f"a call takes {', '.join(OPTIONS)}, not {', '.join(unknown)}")
    for given in (defaults, overrides):
        if given.get("weights") is not None and given.get("fusion") is not None:
            raise InvalidInput("give either weights, for a weighted sum, or a fusion, which has weights of its own")
    options = {**defaults, **overrides}
    if overrides.get("fusion") is not None:
        options["weights"] = None
    weights = options.pop("weights", None)
    if weights is not None:
        options["fusion"] = _weighted(weights)
    return options


def _weighted(weights: Sequence[float]) -> WeightedSum:
    try:
        numbers = [float(weight) for weight in weights]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (2, 3) or isinstance(weights, str):
        raise InvalidInput(f"weights are two or three numbers, for (dense, sparse, multi-vector), not {weights!r}")
    return WeightedSum(*numbers)


def relevances(hits: Sequence[Hit], query: M3Output, fusion: Fusion | None) -> list[float]:
    """How relevant hits are, from 0 to 1: the weighted sum of their scores, as a share of what the query itself gets.

    So a passage that says just what the query says has 1, whatever the modes and weights. RRF and DBSF order hits by
    what else was found, which says nothing of how relevant the first one is: with them too it is the model's own sum.

    Args:
        hits: of one query.
        query: its representations.
        fusion: that they were found with.
    """
    if not hits:
        return []
    modes = tuple(hits[0].scores)
    total = fusion if isinstance(fusion, WeightedSum) else WeightedSum(*query.score_weights)
    full = own_score(query, total, modes)
    sums = [sum(getattr(total, mode) * score for mode, score in hit.scores.items()) for hit in hits]
    return [min(max(score / full, 0.0), 1.0) for score in sums]


def matched_tokens(encoder: M3Encoder, query: str, weights: SparseVector, document: SparseVector) -> dict[str, float]:
    """The tokens that a query and a document have in common, by what each adds to the lexical score, largest first.

    Args:
        encoder: of both.
        query: the query's text.
        weights: its sparse vector.
        document: the document's sparse vector.
    """
    names = {token.id: token.token.lstrip("▁") or token.token for token in encoder.tokenize(query)}
    parts: defaultdict[str, float] = defaultdict(float)
    for token_id, of_query, of_document in shared_tokens(weights, document):
        parts[names.get(token_id, str(token_id))] += of_query * of_document
    return dict(sorted(parts.items(), key=lambda part: -part[1]))
