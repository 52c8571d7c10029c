"""How a collection in Qdrant is laid out, and how a new one keeps its vectors."""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from m3core import InvalidInput, Mode, Record

_NAMESPACE = uuid.UUID("6d33a0b1-52f4-4c87-9d0e-3f8f5c1c7a42")  # of point ids; changing it orphans every collection
_IN_NAMESPACE = hashlib.sha1(_NAMESPACE.bytes, usedforsecurity=False)
_NODE = "_node_content"
_DIGITS = 20  # of the largest number of 64 bits

IndexedType = Literal["keyword", "integer", "float", "bool", "datetime", "text", "uuid"]


@dataclass(frozen=True)
class Layout:
    """The names under which a collection keeps things. The defaults are ours; others read what other programs wrote.

    Attributes:
        dense: name of the dense vectors; `""` is the vector without a name.
        sparse: name of the sparse vectors.
        multivector: name of the multi-vectors.
        id: payload key of a record's id; `None` takes the point's own id, a UUID or a number.
        text: payload key of the text.
        metadata: payload key of the metadata; `None` takes all other keys of the payload.
    """

    dense: str = "dense"
    sparse: str = "sparse"
    multivector: str = "multivector"
    id: str | None = "id"
    text: str = "text"
    metadata: str | None = "metadata"

    def vector(self, mode: Mode) -> str:
        """The name of the vectors of a mode."""
        return str(getattr(self, mode))

    def modes(self) -> dict[str, Mode]:
        """The mode of each vector name."""
        return {self.dense: "dense", self.sparse: "sparse", self.multivector: "multivector"}

    def point_id(self, record_id: str) -> Any:
        """The id of a record's point; `None` if no point can have it."""
        if self.id is not None:
            return _uuid5(record_id)
        return self.offset(record_id) if _is_number(record_id) or _is_uuid(record_id) else None

    def offset(self, point_id: str) -> Any:
        """A point's id, as Qdrant takes it, from its text."""
        return int(point_id) if _is_number(point_id) else point_id

    def check(self, record: Record) -> None:
        """Refuses records that this layout has no place for.

        Raises:
            InvalidInput: names the record.
        """
        if self.text == _NODE:
            raise InvalidInput("collections of LlamaIndex's own Qdrant store can be read, not written; use another one")
        if self.point_id(record.id) is None:
            raise InvalidInput(f"the id {record.id!r} is no UUID or number, as the layout of this collection needs it")
        if self.metadata is None and (taken := {self.text, self.id, HASH} & set(record.metadata)):
            raise InvalidInput(f"record {record.id!r} has metadata called {taken.pop()!r}, which is taken; rename it")

    def payload(self, record: Record) -> dict[str, Any]:
        """What a record's point carries beside its vectors."""
        payload: dict[str, Any] = dict(record.metadata) if self.metadata is None else {self.metadata: record.metadata}
        payload[self.text] = record.text
        if self.id is not None:
            payload[self.id] = record.id
        return payload

    def record_id(self, point: Any) -> str:
        """The id of a point's record. A point is one of either client's, with `id` and `payload`."""
        payload = point.payload if self.id is not None else None  # each access makes a new dict
        if payload and (record_id := payload.get(self.id)) is not None:
            return str(record_id)
        return str(point.id)

    def record(self, point: Any) -> Record:
        """The record of a point."""
        payload = point.payload or {}
        text = payload.get(self.text) or ""
        if self.text == _NODE and text:
            text = json.loads(text).get("text") or ""
        if self.metadata is not None:
            metadata = payload.get(self.metadata) or {}
        else:
            metadata = {key: value for key, value in payload.items() if key not in (self.id, self.text, HASH)}
        return Record(self.record_id(point), str(text), metadata)

    def unindexed(self, wanted: Mapping[str, IndexedType], held: Iterable[str]) -> dict[str, IndexedType]:
        """The paths of the wanted fields that are not among the paths of those that are indexed, and their types."""
        there = {path.replace('"', "") for path in held}
        paths = {self.metadata_path(tuple(key.split("."))): kind for key, kind in wanted.items()}
        return {path: kind for path, kind in paths.items() if path.replace('"', "") not in there}

    def metadata_path(self, path: tuple[str, ...]) -> str:
        """A metadata field's place in the payload, as Qdrant spells it."""
        start = [] if self.metadata is None else [self.metadata]
        return ".".join([*start, *(f'"{part}"' for part in path)])


@lru_cache(maxsize=1 << 16)
def _uuid5(name: str) -> str:
    """`str(uuid.uuid5(_NAMESPACE, name))`, three times as fast and remembered: a search needs a hundred."""
    digest = _IN_NAMESPACE.copy()
    digest.update(name.encode())
    number = int.from_bytes(digest.digest()[:16])
    number = number & ~(0xF000 << 64) | 5 << 76
    text = f"{number & ~(0xC000 << 48) | 0x8000 << 48:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _is_number(text: str) -> bool:
    """Whether it is the one spelling of a number that Qdrant takes for an id."""
    if not text.isascii() or not text.isdecimal() or len(text) > _DIGITS:
        return False
    return str(int(text)) == text and int(text) < 2**64


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


HASH = "hash"
"""The payload key of a record's hash, beside the layout's."""

OURS = Layout()
LANGCHAIN = Layout(dense="", sparse="langchain-sparse", id=None, text="page_content")
"""Of langchain-qdrant."""
LLAMA_INDEX = Layout(dense="text-dense", sparse="text-sparse-new", id=None, text=_NODE, metadata=None)
"""Of llama-index-vector-stores-qdrant. To be read only."""


@dataclass(frozen=True)
class QdrantSettings:
    """How a new collection keeps its vectors. An existing one stays as it is, but for `indexed`.

    Attributes:
        quantization: of the dense vectors, for speed: `"int8"` or `"turbo4"` copies in memory find the candidates, and
            the vectors themselves score them. `None` for none.
        multivector_type: `"float16"`, or `"turbo4"`: a quarter of the room, and some percent less
            exact (it finds 97 % of the ten best at a width of 1024, 94 % at 128).
        on_disk: whether dense vectors and the sparse index stay on disk, read as they are needed.
        indexed: metadata fields that filters are about, and their types: `{"year": "integer"}`. A filter on another
            field reads every record. Existing collections get what they lack of these.
        shards: on a server, over how many shards the collection is spread; `None` is the server's choice.
        replicas: on a server, how many copies of each shard there are.
        write_consistency: on a server, how many replicas must confirm a write.

    Raises:
        InvalidInput: a value that there is not.
    """

    quantization: Literal["int8", "turbo4"] | None = None
    multivector_type: Literal["float16", "turbo4"] = "float16"
    on_disk: bool = False
    indexed: Mapping[str, IndexedType] = field(default_factory=dict)
    shards: int | None = None
    replicas: int | None = None
    write_consistency: int | None = None

    def of_servers(self) -> bool:
        """Whether something is set that only a server has."""
        return any(value is not None for value in (self.shards, self.replicas, self.write_consistency))

    def __post_init__(self) -> None:
        if self.quantization not in (None, "int8", "turbo4"):
            raise InvalidInput(f"quantization is 'int8', 'turbo4' or None, not {self.quantization!r}")
        if self.multivector_type not in ("float16", "turbo4"):
            raise InvalidInput(f"multivector_type is 'float16' or 'turbo4', not {self.multivector_type!r}")
        for key, kind in self.indexed.items():
            if kind not in IndexedType.__args__:  # type: ignore[attr-defined]
                raise InvalidInput(f"{key!r} cannot be indexed as {kind!r}; there are {IndexedType.__args__}")  # type: ignore[attr-defined]
