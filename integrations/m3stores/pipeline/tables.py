"""Records and their representations as Arrow tables, for other processes and for files.

Columns: `_id` and `text`; `metadata` as JSON; and by mode `dense` (lists of float32), `sparse_indices` and
`sparse_values` (lists of uint32 and float32), `multivector` (lists of rows of float16, as collections keep them).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from m3core import MODES, Fingerprint, M3Output, Mode, Record, SparseVector

_SPARSE = (np.uint32, np.float32)
_COLUMNS: dict[Mode, tuple[str, ...]] = {
    "dense": ("dense",),
    "sparse": ("sparse_indices", "sparse_values"),
    "multivector": ("multivector",),
}


@dataclass(frozen=True)
class Origin:
    """What made the representations of a table.

    Attributes:
        score_weights: of the encoder.
        fingerprint: of the encoder, if it is known.
    """

    score_weights: tuple[float, float, float]
    fingerprint: Fingerprint | None

    @classmethod
    def of(cls, output: M3Output) -> "Origin":
        """Of an output."""
        return cls(output.score_weights, output.fingerprint)

    def as_json(self) -> str:
        """For a file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, content: str | bytes) -> "Origin":
        """What `as_json` wrote."""
        held = json.loads(content)
        dense, sparse, multivector = held["score_weights"]
        fingerprint = held["fingerprint"]
        return cls((dense, sparse, multivector), None if fingerprint is None else Fingerprint(**fingerprint))


def table_of(records: Sequence[Record], output: M3Output | None = None) -> pa.Table:
    """A table of records, with their representations if there are any."""
    columns: dict[str, Any] = {
        "_id": pa.array([record.id for record in records], pa.string()),
        "text": pa.array([record.text for record in records], pa.large_string()),
        "metadata": pa.array([json.dumps(record.metadata, ensure_ascii=False) for record in records], pa.string()),
    }
    if output is not None and output.dense is not None:
        columns["dense"] = _rows(output.dense)
    if output is not None and output.sparse is not None:
        lengths = [len(vector) for vector in output.sparse]
        columns["sparse_indices"] = _lists([vector.indices for vector in output.sparse], lengths, np.uint32)
        columns["sparse_values"] = _lists([vector.values for vector in output.sparse], lengths, np.float32)
    if output is not None and output.multivector is not None:
        rows = np.concatenate(output.multivector).astype(np.float16)
        columns["multivector"] = pa.ListArray.from_arrays(_offsets([len(m) for m in output.multivector]), _rows(rows))
    return pa.table(columns)


def modes_of(schema: pa.Schema) -> tuple[Mode, ...]:
    """The modes that a table has."""
    return tuple(mode for mode in MODES if _COLUMNS[mode][0] in schema.names)


def columns_of(modes: Sequence[Mode]) -> list[str]:
    """The columns of records and their representations by these modes."""
    return ["_id", "text", "metadata", *(name for mode in modes for name in _COLUMNS[mode])]


def records_of(table: pa.Table) -> list[Record]:
    """The records of a table."""
    rows = table.select(["_id", "text", "metadata"]).to_pylist()
    return [Record(row["_id"], row["text"], json.loads(row["metadata"])) for row in rows]


def output_of(table: pa.Table, origin: Origin) -> M3Output:
    """The representations of a table with at least one row."""
    names = [name for mode in modes_of(table.schema) for name in _COLUMNS[mode]]
    columns = {name: _joined(table.column(name)) for name in names}
    dense = sparse = multivector = None
    if "dense" in columns:
        dense = _numbers(columns["dense"].flatten(), np.float32).reshape(len(table), -1)
    if "sparse_indices" in columns:
        indices, values = (
            _split(columns[name], dtype) for name, dtype in zip(_COLUMNS["sparse"], _SPARSE, strict=True)
        )
        sparse = [SparseVector(*pair) for pair in zip(indices, values, strict=True)]
    if "multivector" in columns:
        rows = columns["multivector"].flatten()
        numbers = _numbers(rows.flatten(), np.float32).reshape(len(rows), -1)
        multivector = np.split(numbers, _cuts(columns["multivector"]))
    return M3Output(dense, sparse, multivector, origin.score_weights, origin.fingerprint)


def _rows(matrix: npt.NDArray[Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def _lists(arrays: Sequence[npt.NDArray[Any]], lengths: Sequence[int], dtype: npt.DTypeLike) -> pa.Array:
    values = np.concatenate(arrays).astype(dtype) if len(arrays) else np.zeros(0, dtype)
    return pa.ListArray.from_arrays(_offsets(lengths), pa.array(values))


def _offsets(lengths: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks)


def _numbers(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    numbers: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return numbers.astype(dtype)


def _split(lists: pa.Array, dtype: npt.DTypeLike) -> list[npt.NDArray[Any]]:
    return np.split(_numbers(lists.flatten(), dtype), _cuts(lists))


def _cuts(lists: pa.Array) -> npt.NDArray[np.int64]:
    lengths: npt.NDArray[np.int64] = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return np.cumsum(lengths)[:-1]
