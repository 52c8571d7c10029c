"""What there is to tell of a run, on its way from where it happens to where it is counted."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from m3stores.pipeline.documents import Reject

COUNTS = ("documents", "passages", "unchanged", "encoded", "added", "removed")
"""Which of a note's attributes are numbers."""


@dataclass(frozen=True)
class Note:
    """What became of some documents and passages.

    Attributes:
        documents: that were split.
        passages: that they have.
        unchanged: of these, those that the collection has already.
        encoded: that were stored.
        added: of these, those that the collection did not have at all.
        removed: that documents no longer have.
        ends: ids of documents, and how many passages each has.
        dropped: ids of passages that were counted and could not be used.
        rejects: what could not be used, and why.
    """

    documents: int = 0
    passages: int = 0
    unchanged: int = 0
    encoded: int = 0
    added: int = 0
    removed: int = 0
    ends: Sequence[tuple[str, int]] = ()
    dropped: Sequence[str] = ()
    rejects: Sequence[Reject] = ()

    def __add__(self, other: "Note") -> "Note":
        """Both together."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        return Note(
            **counts,
            ends=[*self.ends, *other.ends],
            dropped=[*self.dropped, *other.dropped],
            rejects=[*self.rejects, *other.rejects],
        )

    def as_json(self) -> str:
        """For a table."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, content: str) -> "Note":
        """What `as_json` wrote."""
        held = json.loads(content)
        rejects = [Reject(**reject) for reject in held.pop("rejects")]
        return cls(**held, rejects=rejects)
