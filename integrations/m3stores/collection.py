"""What crosses a store's border: a collection's `Schema`, a `Hit` from it, a `Page` of it, a `Comparison` with it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from m3core import CollectionMismatch, Fingerprint, M3Output, Mode, Record, UnsupportedMode
from m3core.output import MODES


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
        shares: what each of these modes adds to the fused score.
    """

    id: str
    text: str
    metadata: Mapping[str, Any]
    score: float
    scores: Mapping[Mode, float]
    ranks: Mapping[Mode, int]
    shares: Mapping[Mode, float]


@dataclass(frozen=True)
class Comparison:
    """What of some records a collection does not have as they are.

    Attributes:
        differing: those that are not there with the same text and metadata, and so need be encoded.
        new: how many of these have ids that are not there at all.
    """

    differing: list[Record]
    new: int


@dataclass(frozen=True)
class Page:
    """Some records of a collection, in the order of the collection's own.

    Attributes:
        records: at most as many as were asked for.
        output: their representations, one for each record, if they were asked for.
        next: where the next page begins; `None` after the last one.
    """

    records: list[Record]
    output: M3Output | None
    next: str | None


@dataclass(frozen=True)
class Schema:
    """What a collection's records are represented by. Taken from the first output that it stores.

    Attributes:
        modes: the modes that every record has.
        dense_dim: width of the dense vectors, or `None`.
        multivector_dim: width of the rows of the multi-vectors, or `None`.
        fingerprint: the encoder; `None` if the vectors came without one.
        foreign: whether another program made the collection, so that nothing is known of the encoder.
    """

    modes: tuple[Mode, ...]
    dense_dim: int | None
    multivector_dim: int | None
    fingerprint: Fingerprint | None
    foreign: bool = False

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
        """For a file. What is foreign is not written down."""
        return {name: value for name, value in asdict(self).items() if name != "foreign"}

    def adopted(self, fingerprint: Fingerprint | None) -> "Schema":
        """A foreign schema as one of ours, with vectors of this encoder."""
        return replace(self, fingerprint=fingerprint, foreign=False)

    def with_modes_of(self, other: "Schema") -> "Schema":
        """This schema and the modes of `other` that it lacks."""
        return replace(
            self,
            modes=tuple(mode for mode in MODES if mode in self.modes or mode in other.modes),
            dense_dim=self.dense_dim or other.dense_dim,
            multivector_dim=self.multivector_dim or other.multivector_dim,
        )

    def check_fingerprint(self, fingerprint: Fingerprint | None, collection: str, address: str | None) -> None:
        """Refuses vectors of another encoder.

        Args:
            fingerprint: theirs.
            collection: its name.
            address: as `m3 index --store` takes it, for the message.

        Raises:
            CollectionMismatch: with what differs, and what to do.
        """
        if self.foreign or fingerprint == self.fingerprint:
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
        command = f"m3 index SOURCE --store {address} --collection NEW --model {fingerprint.model}"
        raise CollectionMismatch(
            f"collection {collection!r} was made by another encoder: {differing}. Use that encoder, or index the texts "
            f"anew into another collection{f' ({command})' if address else ''}"
        )

    def check_mode(self, mode: Mode, collection: str) -> None:
        """Refuses a mode that the records do not have.

        Raises:
            UnsupportedMode: names those that they have.
        """
        if mode not in self.modes:
            raise UnsupportedMode(
                f"collection {collection!r} has no {mode} representations; it has {', '.join(self.modes)}"
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
