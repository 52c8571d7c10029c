"""What a collection is: its `Schema`, a `Hit` from it, and the `Engine` that keeps its points."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from m3core import CollectionMismatch, Fingerprint, M3Output, Mode, Record
from m3stores.filters import Expression


@dataclass(frozen=True)
class Hit:
    """A record that a search found.

    Attributes:
        id: the record's.
        text: the record's.
        metadata: the record's.
        score: the fused score, larger is better.
        scores: the score by each mode that was searched.
        ranks: the rank by each of these modes among the candidates, from 1; equal scores share the better rank.
    """

    id: str
    text: str
    metadata: Mapping[str, Any]
    score: float
    scores: Mapping[Mode, float]
    ranks: Mapping[Mode, int]


@dataclass(frozen=True)
class Schema:
    """What a collection's records are represented by. Taken from the first output that it stores.

    Attributes:
        modes: the modes that every record has.
        dense_dim: width of the dense vectors, or `None`.
        multivector_dim: width of the rows of the multi-vectors, or `None`.
        fingerprint: the encoder; `None` if the vectors came without one.
    """

    modes: tuple[Mode, ...]
    dense_dim: int | None
    multivector_dim: int | None
    fingerprint: Fingerprint | None

    @classmethod
    def of(cls, output: M3Output) -> "Schema":
        """The schema that `output`, of at least one text, fits."""
        return cls(
            output.modes,
            None if output.dense is None else output.dense.shape[1],
            None if output.multivector is None else output.multivector[0].shape[1],
            output.fingerprint,
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Schema":
        """What `as_json` wrote."""
        fingerprint = content["fingerprint"]
        return cls(
            tuple(content["modes"]),
            content["dense_dim"],
            content["multivector_dim"],
            None if fingerprint is None else Fingerprint(**fingerprint),
        )

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    def check_fingerprint(self, fingerprint: Fingerprint | None, collection: str) -> None:
        """Refuses vectors of another encoder.

        Raises:
            CollectionMismatch: with what differs, and what to do.
        """
        if fingerprint == self.fingerprint:
            return
        if fingerprint is None or self.fingerprint is None:
            held, given = (f"of {f.model}" if f else "of no known encoder" for f in (self.fingerprint, fingerprint))
            raise CollectionMismatch(
                f"collection {collection!r} holds vectors {held}, and these are {given}: give it outputs of the "
                "encoder that filled it, as M3Encoder returns them, or use another collection"
            )
        differing = "; ".join(
            f"{name} is {held!r} there and {given!r} here"
            for name in (f.name for f in fields(fingerprint))
            if (held := getattr(self.fingerprint, name)) != (given := getattr(fingerprint, name))
        )
        raise CollectionMismatch(
            f"collection {collection!r} was made by another encoder: {differing}. Use that encoder, or index the texts "
            "anew into another collection"
        )

    def check_vectors(self, output: M3Output, modes: Sequence[Mode], collection: str) -> None:
        """Refuses vectors of other widths than the collection's.

        Raises:
            CollectionMismatch: names both widths.
        """
        given = Schema.of(output)
        for mode, ours, theirs in (
            ("dense", self.dense_dim, given.dense_dim),
            ("multivector", self.multivector_dim, given.multivector_dim),
        ):
            if mode in modes and ours != theirs:
                raise CollectionMismatch(
                    f"collection {collection!r} has {mode} vectors {ours} wide, and these are {theirs} wide: "
                    "use the model that filled it, or another collection"
                )


class Engine(Protocol):
    """Keeps the points of one collection. Speaks of records by their own ids, and returns the paper's scores.

    A store validates before it calls: an engine may trust what it is given.
    """

    @property
    def schema(self) -> Schema | None:
        """What the collection holds; `None` while it does not exist."""

    def create(self, schema: Schema) -> Schema:
        """Makes the collection if it does not exist, whole or not at all. Returns the schema that it has."""

    def write(self, records: Sequence[Record], output: M3Output) -> None:
        """Stores the records, in place of any with the same ids. They are there for good when it returns."""

    def delete(self, ids: Sequence[str]) -> None:
        """Removes records; ids that are not there do not matter."""

    def delete_matching(self, filter: Any) -> None:
        """Removes the records that a filter of `translate` matches."""

    def read(self, ids: Sequence[str]) -> dict[str, Record]:
        """The records of these ids that are there."""

    def count(self, filter: Any) -> int:
        """How many records there are, of those that a filter of `translate` matches if it is not `None`."""

    def translate(self, filter: Expression) -> Any:
        """The filter in the engine's own terms.

        Raises:
            InvalidInput: it has no such condition.
        """

    def is_native(self, filter: object) -> bool:
        """Whether this is a filter in the engine's own terms."""

    def candidates(
        self, queries: M3Output, modes: Sequence[Mode], limit: int, filter: Any
    ) -> list[dict[Mode, dict[str, float]]]:
        """For each query and mode the best `limit` records, as `{id: score}`."""

    def scores(self, queries: M3Output, wanted: Sequence[tuple[int, Mode, Sequence[str]]]) -> list[dict[str, float]]:
        """For each (row of `queries`, mode, ids) the scores of these records; one without a score is left out."""

    def close(self) -> None:
        """Releases everything. May be called twice."""
