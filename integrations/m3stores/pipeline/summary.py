"""What became of a source."""

from dataclasses import asdict, dataclass
from typing import Any

from m3stores.pipeline.documents import Reject
from m3stores.pipeline.notes import COUNTS, Note

_LISTED = 20


@dataclass
class Summary:
    """Counts of a run.

    Attributes:
        documents: that were read: texts, or records of tables.
        passages: that they have.
        unchanged: of these, those that the collection had already.
        encoded: those that were new or changed.
        added: those that were new.
        removed: passages of the collection that their documents, or the source, no longer have.
        rejected: what could not be used.
        rejects: the first 20 of these.
        seconds: that the run took.
    """

    documents: int = 0
    passages: int = 0
    unchanged: int = 0
    encoded: int = 0
    added: int = 0
    removed: int = 0
    rejected: int = 0
    rejects: tuple[Reject, ...] = ()
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Passages encoded per second."""
        return self.encoded / self.seconds if self.seconds else 0.0

    def count(self, note: Note) -> None:
        """Adds what a note tells, but for rejects."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(note, name))

    def reject(self, reject: Reject) -> None:
        """Counts it."""
        self.rejected += 1
        if len(self.rejects) < _LISTED:
            self.rejects += (reject,)

    def report(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self) | {"rate": self.rate}
