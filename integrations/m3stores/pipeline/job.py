"""What a run is about, wherever it runs."""

import codecs
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from m3core import InvalidInput, M3Encoder, M3Output, Mode, Record
from m3stores.arguments import whole
from m3stores.checks import MOST_FLOATS
from m3stores.collection import Comparison
from m3stores.keys import Keys
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.documents import Columns
from m3stores.pipeline.notes import Note
from m3stores.pipeline.rejects import Rejects
from m3stores.pipeline.seen import Seen
from m3stores.pipeline.sources import Documents, Source
from m3stores.pipeline.summary import Summary
from m3stores.text import window

_LEAST = 3  # portions of one passage


class Target(Protocol):
    """Where encoded passages go: a collection, or files."""

    @property
    def remote(self) -> bool:
        """Whether other processes can write to it too."""

    def keys(self) -> Keys:
        """Which records there are, with which texts and metadata."""

    def compare(self, records: Sequence[Record]) -> Comparison:
        """Tells which of some records are not there as they are."""

    def upsert(self, records: Sequence[Record], output: M3Output) -> list[str]:
        """Takes records with their representations."""

    def get(self, ids: Sequence[str]) -> list[Record]:
        """The records of these ids that are there."""

    def delete(self, ids: Sequence[str]) -> None:
        """Removes records."""


@dataclass(frozen=True)
class Job:
    """A source whose passages are to be encoded and put somewhere.

    Attributes:
        source: as it was given.
        columns: of tables.
        encoding: of texts and CSV, and of pages that do not say theirs.
        chunker: splits documents.
        encoder: encodes passages.
        target: takes them.
        modes: what passages are encoded to.
        together: the most passages under way, encoded and not stored yet.
        summary: counts what was done.
        rejects: takes what cannot be used.
        seen: takes the ids of documents.
        show_progress: whether to show a progress bar.
    """

    source: Source
    columns: Columns
    encoding: str
    chunker: Chunker
    encoder: M3Encoder
    target: Target
    modes: Sequence[Mode]
    together: int
    summary: Summary
    rejects: Rejects
    seen: Seen
    show_progress: bool

    def documents(self) -> Documents:
        """The source, to be read once."""
        return Documents(self.source, self.columns, self.encoding)

    def count(self, note: Note) -> None:
        """Takes what there is to tell."""
        self.summary.count(note)
        self.rejects.add(*note.rejects)


@contextmanager
def job(
    source: Source,
    encoder: M3Encoder,
    target: Target,
    modes: Sequence[Mode],
    *,
    text_column: str,
    id_column: str | None,
    encoding: str,
    tokens: int | None,
    overlap: int | None,
    rejects: str | Path | None,
    batch_size: int | None,
    show_progress: bool,
) -> Iterator[Job]:
    """A job; its files are closed at the end. See `index` for the arguments.

    Raises:
        InvalidInput: an argument that cannot be used.
        MissingDependency: semantic-text-splitter is not installed.
    """
    together = window(encoder.fingerprint, modes)
    if batch_size is not None:
        together = whole(batch_size, "batch_size", _LEAST)
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise InvalidInput(f"there is no encoding {encoding!r}; such are utf-8, gb18030, big5") from error
    width = encoder.fingerprint.multivector_dim
    rows = MOST_FLOATS // width if width is not None and "multivector" in modes else None
    summary = Summary()
    with closing(Seen()) as seen, closing(Rejects(summary, None if rejects is None else Path(rejects))) as rejected:
        yield Job(
            source,
            Columns(text_column, id_column),
            encoding,
            Chunker(encoder, tokens, overlap, rows=rows),
            encoder,
            target,
            modes,
            together,
            summary,
            rejected,
            seen,
            show_progress,
        )
