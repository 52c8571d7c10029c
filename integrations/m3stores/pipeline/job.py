"""What a run is about, wherever it runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from m3core import M3Encoder, Mode
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.rejects import Rejects
from m3stores.pipeline.sources import Documents
from m3stores.pipeline.summary import Summary
from m3stores.store import HybridStore


@dataclass(frozen=True)
class Job:
    """A source to be put into a collection.

    Attributes:
        documents: the source.
        chunker: splits its documents.
        encoder: of the collection.
        store: the collection.
        modes: what passages are encoded to.
        together: the most passages under way, encoded and not stored yet.
        summary: counts what was done.
        rejects: takes what cannot be used.
        show_progress: whether to show a progress bar.
    """

    documents: Documents
    chunker: Chunker
    encoder: M3Encoder
    store: HybridStore
    modes: Sequence[Mode]
    together: int
    summary: Summary
    rejects: Rejects
    show_progress: bool
