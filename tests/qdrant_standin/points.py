"""Points, ids and vectors: checked as a server checks them, then in the engine's terms.

The checks come before every write: a vector that the engine chokes on would break the shard for good.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import qdrant_edge as edge

from qdrant_standin.config import Space
from qdrant_standin.refusals import bad_format, bad_input, invalid, unsupported

_MOST_MULTI = 1_048_576  # floats in one multi-vector
_INFERENCE = {"text", "image", "object"}


def point_id(value: Any) -> int | str:
    """An unsigned number of 64 bits or a UUID; nothing else is an id in Qdrant."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    try:
        return str(uuid.UUID(value))
    except (ValueError, TypeError, AttributeError):
        raise bad_format(
            f"value {value} is not a valid point ID, valid values are either an unsigned integer or a UUID"
        ) from None


def listed(upsert: dict[str, Any]) -> list[dict[str, Any]]:
    """The points of an upsert, whichever way they came: as a list or by columns."""
    if "points" in upsert:
        return upsert["points"]
    batch = upsert["batch"]
    ids, columns = batch["ids"], batch["vectors"]
    payloads = batch.get("payloads") or [None] * len(ids)
    lengths = {len(column) for column in columns.values()} if isinstance(columns, dict) else {len(columns)}
    if lengths - {len(ids)} or len(payloads) != len(ids):
        raise invalid("batch", f"number of ids, vectors and payloads must be equal ({len(ids)} ids)")
    if isinstance(columns, dict):
        rows = [{name: column[row] for name, column in columns.items()} for row in range(len(ids))]
    else:
        rows = columns
    return [{"id": i, "vector": v, "payload": p} for i, v, p in zip(ids, rows, payloads, strict=True)]


def check_points(points: list[dict[str, Any]]) -> None:
    """What a server checks of points before it looks at the collection."""
    for n, point in enumerate(points):
        point_id(point["id"])
        for name, vector in _named(point["vector"]):
            check_vector(vector, f"points[{n}].vector.{name}")


def check_vector(vector: Any, where: str) -> None:
    """The same for one vector."""
    if isinstance(vector, dict) and "indices" in vector:
        _check_sparse(vector["indices"], vector["values"], where)
    elif isinstance(vector, dict):
        raise unsupported("inference")
    elif vector and isinstance(vector[0], list):
        _check_multi(vector, where)
    elif not _finite(vector):
        raise bad_format(f"{where} has a number that is not finite")


def edge_point(point: dict[str, Any], known: dict[str, Space]) -> edge.Point:
    """A point that is checked against the collection as well."""
    return edge.Point(point_id(point["id"]), edge_vectors(point["vector"], known), point.get("payload"))


def edge_vectors(vectors: Any, known: dict[str, Space]) -> dict[str, Any]:
    """A point's vectors by name."""
    return {name: _edge_vector(name, vector, known) for name, vector in _named(vectors)}


def edge_query(vector: Any) -> Any:
    """A vector to search by. Whether it fits the collection is for the engine to say."""
    return edge.SparseVector(vector["indices"], vector["values"]) if isinstance(vector, dict) else vector


def plain_vectors(vectors: Any) -> Any:
    """A point's vectors as JSON has them."""
    if isinstance(vectors, dict):
        return {name: plain_vectors(vector) for name, vector in vectors.items()}
    if isinstance(vectors, edge.SparseVector):
        return {"indices": list(vectors.indices), "values": list(vectors.values)}
    return vectors


def _named(vectors: Any) -> Iterator[tuple[str, Any]]:
    """The vectors by name; a vector by itself has the empty name."""
    if isinstance(vectors, dict) and not _INFERENCE & vectors.keys():
        yield from vectors.items()
    else:
        yield "", vectors


def _edge_vector(name: str, vector: Any, known: dict[str, Space]) -> Any:
    space = known.get(name)
    if space is None:
        raise bad_input(f"Not existing vector name error: {name}")
    kind = "sparse" if isinstance(vector, dict) else "multi" if vector and isinstance(vector[0], list) else "dense"
    if (kind == "sparse") != (space.kind == "sparse") or (kind, space.kind) == ("multi", "dense"):
        raise bad_input(f"Vector {name!r} is {space.kind}, got {kind}")
    if kind == "sparse":
        return edge.SparseVector(vector["indices"], vector["values"])
    rows = vector if kind == "multi" else [vector]
    if wrong := {len(row) for row in rows} - {space.size}:
        raise bad_input(f"Vector dimension error: expected dim: {space.size}, got {wrong.pop()}")
    return rows if space.kind == "multi" else vector


def _check_sparse(indices: list[Any], values: list[Any], where: str) -> None:
    if len(indices) != len(values):
        raise invalid(f"{where}.values", "must be the same length as indices")
    if len(set(indices)) != len(indices):
        raise invalid(f"{where}.indices", "must be unique")
    if not all(isinstance(index, int) and 0 <= index < 2**32 for index in indices):
        raise bad_format(f"{where}.indices has a number that is no u32")
    if not _finite(values):
        raise bad_format(f"{where}.values has a number that is not finite")


def _check_multi(rows: list[list[float]], where: str) -> None:
    sizes = [len(row) for row in rows]
    if not all(sizes):
        raise invalid(where, "all vectors must be non-empty")
    if sum(sizes) >= _MOST_MULTI:
        raise invalid(where, f"Total size of all vectors ({sum(sizes)}) must be less than {_MOST_MULTI}")
    if len(set(sizes)) > 1:
        raise invalid(where, "all vectors must have the same size")
    if not _finite(rows):
        raise bad_format(f"{where} has a number that is not finite")


def _finite(values: Any) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.asarray(values, np.float64).astype(np.float32)).all())
