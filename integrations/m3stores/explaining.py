"""Why hits were found: `m3core.explain` for what a search gave."""

from collections.abc import Sequence

from m3core import MODES, Explanation, Fusion, M3Encoder, WeightedSum
from m3core.explaining import explain_all
from m3stores.collection import Hit


def explained(
    query: str,
    hits: Sequence[Hit],
    encoder: M3Encoder,
    *,
    fusion: Fusion | None = None,
    texts: Sequence[str] | None = None,
) -> list[Explanation]:
    """Explains each hit by the modes that it was scored by; one forward pass for the query and one for each hit.

    A collection may hold less exact vectors than the encoder makes: the scores then differ in the fourth digit or so.

    Args:
        query: its text.
        hits: of one search.
        encoder: of the collection.
        fusion: that they were found with. RRF and DBSF order hits by what else was found; explained is then the
            weighted sum with the model's own weights, which `None` means too.
        texts: what was encoded of each hit, if it was not its own text.
    """
    if not hits:
        return []
    total = fusion if isinstance(fusion, WeightedSum) else WeightedSum(*encoder.score_weights)
    dense, sparse, multivector = (getattr(total, mode) if mode in hits[0].scores else 0.0 for mode in MODES)
    return explain_all(
        query, [hit.text for hit in hits] if texts is None else texts, encoder, weights=(dense, sparse, multivector)
    )
