"""Why hits were found: `m3core.explain` for what a search gave."""

import warnings
from collections.abc import Sequence

from m3core import MODES, Explanation, Fusion, M3Encoder, M3Output, StoreWarning, WeightedSum
from m3core.explaining import explain_all
from m3stores.collection import Hit

_NEAR = 0.05  # further than any rounding or quantization of a collection takes a score


def explained(
    query: str,
    hits: Sequence[Hit],
    encoder: M3Encoder,
    *,
    fusion: Fusion | None = None,
    texts: Sequence[str] | None = None,
    encoded: M3Output | None = None,
) -> list[Explanation]:
    """Explains each hit by the modes that it was scored by; one forward pass for each hit, and one for the query.

    A collection may hold less exact vectors than the encoder makes: the scores then differ in the third digit or so. If
    they differ by more, what was indexed was not this text, and a `StoreWarning` says so.

    Args:
        query: its text.
        hits: of one search.
        encoder: of the collection.
        fusion: that they were found with. RRF and DBSF order hits by what else was found; explained is then the
            weighted sum with the model's own weights, which `None` means too.
        texts: what was encoded of each hit, if it was not its own text.
        encoded: the query's representations, if they are there already; dense may be of other texts, as with HyDE.
    """
    if not hits:
        return []
    total = fusion if isinstance(fusion, WeightedSum) else WeightedSum(*encoder.score_weights)
    dense, sparse, multivector = (getattr(total, mode) if mode in hits[0].scores else 0.0 for mode in MODES)
    reasons = explain_all(
        query,
        [hit.text for hit in hits] if texts is None else texts,
        encoder,
        weights=(dense, sparse, multivector),
        encoded=encoded,
    )
    others = [
        hit.id
        for hit, why in zip(hits, reasons, strict=True)
        if any(abs(score - why.scores[mode]) > _NEAR for mode, score in hit.scores.items())
    ]
    if others:
        warnings.warn(
            f"{len(others)} of {len(hits)} explanations, of {others[0]!r} for one, are not what the scores came from: "
            "other texts than those of the records were indexed, as LlamaIndex does with metadata",
            StoreWarning,
            stacklevel=2,
        )
    return reasons
