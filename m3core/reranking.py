"""How well passages answer a query, from the texts alone: what the frameworks' rerankers stand on."""

from collections.abc import Sequence

import numpy as np

from m3core.encoder import M3Encoder
from m3core.errors import InvalidInput
from m3core.output import MODES, Mode


def best_passages(
    encoder: M3Encoder,
    query: str,
    passages: Sequence[str],
    *,
    most: int | None = None,
    modes: Sequence[Mode] | None = None,
    weights: tuple[float, float, float] | None = None,
) -> list[tuple[int, float]]:
    """The best passages for a query: the place of each among `passages` and its score, best first.

    Equal ones stay in their order.

    The passages are encoded together, by as few modes as the score needs.

    Args:
        encoder: any; with a cache, passages that it has seen cost nothing.
        query: a text.
        passages: texts.
        most: how many to return; `None` returns all.
        modes: what to score by; `None` means all that the model has, which gives the hybrid score (BGE-M3,
            arXiv 2402.03216, section 3.2). One alone gives its own score: `["multivector"]` is MaxSim.
        weights: for (dense, sparse, multi-vector) in the sum; `None` takes the model's own.

    Raises:
        UnsupportedMode: the model does not have one of the modes.
        InvalidInput: a weight for a mode that is not among `modes`.
    """
    wanted = tuple(encoder.modes if modes is None else modes)
    if weights is not None and any(w and mode not in wanted for mode, w in zip(MODES, weights, strict=True)):
        raise InvalidInput(f"weights {weights} count a mode that is not among {', '.join(wanted)}")
    if weights is None and len(wanted) == 1:
        weights = (float("dense" in wanted), float("sparse" in wanted), float("multivector" in wanted))
    encoded = encoder.encode_queries([query], modes=wanted)
    scores = encoded.score(encoder.encode_documents(passages, modes=wanted), weights=weights)[0]
    return [(place, float(scores[place])) for place in np.argsort(-scores, kind="stable")[:most].tolist()]
