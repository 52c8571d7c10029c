"""A record of ours as one of Chroma's, and back. The sparse vector travels in its metadata."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from m3core import M3Output, Record, SparseVector
from m3stores.chroma.metadata import HELPER, decode, encode

HASH, SPARSE = f"{HELPER}hash", f"{HELPER}sparse"


def stored_metadata(record: Record, output: M3Output, row: int, content: str, old: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a record.

    Args:
        record: a checked one.
        output: with its representations in `row`.
        row: of `output`.
        content: the hash.
        old: what the record has now. Chroma merges: what goes has to be set to `None`.
    """
    metadata: dict[str, Any] = {**dict.fromkeys(old), **encode(record.metadata), HASH: content}
    if output.sparse is not None:
        metadata[SPARSE] = packed(output.sparse[row])
    return metadata


def record_of(identifier: str, text: str | None, metadata: Mapping[str, Any] | None) -> Record:
    """The record that Chroma holds."""
    return Record(identifier, text or "", decode(metadata or {}))


def hash_of(metadata: Mapping[str, Any] | None) -> str:
    """The hash that a record was written with; empty if another program wrote it."""
    return str((metadata or {}).get(HASH, ""))


def packed(vector: SparseVector) -> str:
    """A sparse vector as text: base64 of its token ids (uint32) and then its weights (float16), little-endian."""
    content = vector.indices.astype("<u4").tobytes() + vector.values.astype("<f2").tobytes()
    return base64.b64encode(content).decode("ascii")


def unpacked(text: str) -> SparseVector:
    """What `packed` made."""
    content = base64.b64decode(text)
    count = len(content) // 6
    indices = np.frombuffer(content, dtype="<u4", count=count)
    return SparseVector(indices, np.frombuffer(content, dtype="<f2", offset=4 * count).astype(np.float32))
