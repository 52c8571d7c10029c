"""What a source consists of, whatever kind of source it is."""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from m3core import MODES, InvalidInput

Kind = Literal["record", "text", "markdown"]
_ID, _TITLE, _METADATA = ("_id", "id"), "title", "metadata"

DOCUMENT, PASSAGE = "m3_document", "m3_passage"
"""The metadata of a document's passages: its id, and which of them it is, from 0 on."""

_PASSAGE_ID = re.compile(r"#passage[1-9]\d*$")


@dataclass(frozen=True)
class Document:
    """A text before it is split.

    Attributes:
        id: of its first passage.
        text: whole.
        where: it is in the source: `file`, `file:line` or `record number`.
        metadata: of all its passages.
        named: whether the source gave it its id.
        kind: how to split it: a `"record"` only where it is too long for a passage, `"text"` and `"markdown"` always.
    """

    id: str
    text: str
    where: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    named: bool = False
    kind: Kind = "record"


@dataclass(frozen=True)
class Reject:
    """What could not be used.

    Attributes:
        where: as of `Document`.
        reason: why not.
    """

    where: str
    reason: str


@dataclass(frozen=True)
class Columns:
    """Where a record has what.

    Attributes:
        text: the column with the text. A `title` goes before it.
        id: the column with the id; `None` takes `_id` or `id`, or else the record's place.
    """

    text: str = "text"
    id: str | None = None

    def document(self, record: Mapping[str, Any], source: str, number: int, where: str) -> Document:
        """The document of a record. Columns that are neither id, title, text nor vectors are metadata.

        Args:
            record: of a table, or an object.
            source: its file's name.
            number: its place in there.
            where: both, for errors.

        Raises:
            InvalidInput: it has no text, or an id that is none.
        """
        text = record.get(self.text)
        if not isinstance(text, str):
            held = "is no text" if self.text in record else f"is missing; there are {', '.join(map(str, record))}"
            raise InvalidInput(f"{where}: the column {self.text!r} {held}")
        title = record.get(_TITLE) or ""
        if not isinstance(title, str):
            raise InvalidInput(f"{where}: the title is a {type(title).__name__}, not a text")
        names = _ID if self.id is None else (self.id,)
        own = next((record[name] for name in names if record.get(name) is not None), None)
        if not isinstance(own, str | int | None) or isinstance(own, bool):
            raise InvalidInput(f"{where}: the id is a {type(own).__name__}, not a text or a whole number")
        if own is None and self.id is not None:
            raise InvalidInput(f"{where}: the column {self.id!r} holds no id")
        metadata = record.get(_METADATA)
        if not isinstance(metadata, Mapping | None):
            raise InvalidInput(f"{where}: the metadata is a {type(metadata).__name__}, not an object")
        used = {self.text, _TITLE, _METADATA, *names}
        named = own is not None
        metadata = dict(metadata or {})
        if DOCUMENT in metadata or PASSAGE in metadata:  # a passage that was written to a file
            if str(own) != passage_id(str(metadata.pop(DOCUMENT, "")), metadata.pop(PASSAGE, None)):
                raise InvalidInput(f"{where}: {DOCUMENT} and {PASSAGE} are names of ours; rename the metadata")
            named = False
        used |= {mode for mode in MODES if isinstance(record.get(mode), list | dict)}  # that were written to a file
        rest = {name: _plain(value) for name, value in record.items() if name not in used and value is not None}
        return Document(
            f"{source}#{number}" if own is None else str(own),
            f"{title} {text}".strip(),
            where,
            rest | metadata,
            named=named,
        )


def passage_id(document: str, number: object) -> str:
    """The id of a document's passage, counted from 0."""
    return f"{document}#passage{number}" if number else document


def is_passage_id(identifier: str) -> bool:
    """Whether a document's passage might have this id."""
    return _PASSAGE_ID.search(identifier) is not None


def _plain(value: Any) -> Any:
    """What JSON has no word for, and tables have."""
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value
