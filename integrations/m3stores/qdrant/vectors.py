"""Representations on their way to a point and back, for both engines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m3core import M3Output, Mode, Record, SparseVector, StoreError
from m3stores.collection import Schema


def has_content(queries: M3Output, row: int, mode: Mode) -> bool:
    """Whether there is anything to search for: a sparse vector may have no tokens."""
    return mode != "sparse" or queries.sparse is None or len(queries.sparse[row]) > 0


def tokens(queries: M3Output, row: int, mode: Mode) -> int:
    """What Qdrant's score is divided by: its MaxSim is a sum over the query's tokens, the paper's is their mean."""
    return len(queries.multivector[row]) if mode == "multivector" and queries.multivector is not None else 1


def row_numbers(output: M3Output, row: int, modes: Sequence[Mode] | None = None) -> int:
    """How many numbers a text's representations have, by these modes or by all."""
    values = [(mode, getattr(output, mode)[row]) for mode in (output.modes if modes is None else modes)]
    return sum(2 * len(value) if mode == "sparse" else value.size for mode, value in values)


def gathered(
    records: Sequence[Record], vectors: Sequence[Mapping[str, Any]], names: Mapping[Mode, str], schema: Schema
) -> M3Output:
    """The representations of some points.

    Args:
        records: of the points, for the message.
        vectors: of each point by name.
        names: of the vectors by mode.
        schema: of the collection.

    Raises:
        StoreError: a point lacks one; names the record.
    """
    for record, held in zip(records, vectors, strict=True):
        for mode, name in names.items():
            if name not in held:
                raise StoreError(f"record {record.id!r} has no {mode} representation: index it anew, or delete it")
    values = {mode: [representation(held[name], mode) for held in vectors] for mode, name in names.items()}
    dense = None
    if "dense" in names:
        rows = values["dense"]
        dense = np.stack(rows) if rows else np.zeros((0, schema.dense_dim or 0), dtype=np.float32)
    return M3Output(dense, values.get("sparse"), values.get("multivector"), fingerprint=schema.fingerprint)


def representation(held: Any, mode: Mode) -> Any:
    """What a point holds by a mode: an array, or one of our sparse vectors."""
    if mode != "sparse":
        return np.asarray(held, dtype=np.float32)
    indices, values = np.asarray(held.indices, dtype=np.int32), np.asarray(held.values, dtype=np.float32)
    order = np.argsort(indices)
    return SparseVector(indices[order], values[order])
