"""What may be written: every record, vector and number is checked before an engine sees any of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m3core import InvalidInput, M3Output, Record
from m3core.checks import check_text

MOST_FLOATS = 2**20 - 1  # in one multi-vector: Qdrant's own limit
_MOST_INTEGER = 2**63
_LARGEST = 65504.0  # that float16 holds; scores of such vectors stay finite
_NOT_SOUND = f"holds NaN, infinity or numbers beyond ±{_LARGEST:.0f}"
_DEEPEST = 32  # metadata; an engine's log may be unable to read what is nested deeper than it expects


def checked_records(records: Sequence[Record], seen: set[str] | None = None) -> list[Record]:
    """The records as they will be stored, with metadata of plain dicts and lists.

    Args:
        records: to be written.
        seen: ids that there have been already; those of `records` are added.

    Raises:
        InvalidInput: an id, a text or metadata that a collection cannot hold, or an id twice; names the record.
    """
    seen = set() if seen is None else seen
    first = len(seen)
    checked = []
    for number, record in enumerate(records, start=first):
        if not isinstance(record, Record):
            raise InvalidInput(f"record {number} is a {type(record).__name__}, not a Record")
        check_text(record.id, f"the id of record {number}")
        if not record.id:
            raise InvalidInput(f"record {number} has an empty id")
        if record.id in seen:
            raise InvalidInput(f"two records have the id {record.id!r}; ids must be distinct")
        seen.add(record.id)
        check_text(record.text, f"the text of record {record.id!r}")
        if not isinstance(record.metadata, Mapping):
            kind = type(record.metadata).__name__
            raise InvalidInput(f"the metadata of record {record.id!r} is a {kind}, not a dict")
        checked.append(Record(record.id, record.text, _plain(record.metadata, f"metadata of record {record.id!r}")))
    return checked


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise InvalidInput(f"{where} is nested more than {_DEEPEST} levels deep; flatten it")
    if isinstance(value, str):
        return check_text(value, where)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidInput(f"{where}: keys are texts, not {key!r}")
            check_text(key, where)
        return {key: _plain(item, f"{where}, {key!r}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where, depth + 1) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -_MOST_INTEGER <= value < _MOST_INTEGER:
            raise InvalidInput(f"{where}: {value} does not fit into 64 bits; store it as a text")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(f"{where}: {value} is no JSON; leave it out or use None")
        return value
    raise InvalidInput(
        f"{where}: a {type(value).__name__} is no JSON; convert it to a text, a number, a list or a dict first"
    )


def check_output(output: M3Output, names: Sequence[str] | None = None) -> None:
    """Refuses vectors that would spoil a collection or that a server would not take.

    Args:
        output: one representation for each of `names`.
        names: how errors call the texts; `None` means query 0, query 1, …

    Raises:
        InvalidInput: names the text and what is wrong with it.
    """
    if not isinstance(output, M3Output):
        raise InvalidInput(f"vectors come as an M3Output, as an encoder returns them, not as a {type(output).__name__}")
    if names is None:
        names = [f"query {row}" for row in range(len(output))]
    if len(output) != len(names):
        raise InvalidInput(f"{len(names)} records come with the vectors of {len(output)} texts")
    if output.dense is not None:
        if not output.dense.shape[1]:
            raise InvalidInput("the dense vectors have no numbers")
        sound = (np.abs(output.dense) <= _LARGEST).all(axis=1)  # NaN is not
        if not sound.all():
            raise InvalidInput(f"the dense vector of {names[int(sound.argmin())]} {_NOT_SOUND}")
    for name, vector in zip(names, output.sparse or (), strict=False):
        indices, values = vector.indices, vector.values
        if len(indices) != len(values) or (len(indices) and (indices[0] < 0 or (np.diff(indices) <= 0).any())):
            raise InvalidInput(f"the sparse vector of {name} needs as many values as increasing, distinct token ids")
        if not (np.abs(values) <= _LARGEST).all():
            raise InvalidInput(f"the sparse vector of {name} {_NOT_SOUND}")
    for name, rows in zip(names, output.multivector or (), strict=False):
        if not rows.size:
            raise InvalidInput(f"the multi-vector of {name} has no rows")
        if rows.size > MOST_FLOATS:
            raise InvalidInput(
                f"the multi-vector of {name} has {len(rows)} rows of {rows.shape[1]} numbers, more than "
                f"the {MOST_FLOATS} that Qdrant takes: split the text, cut it with max_length, or encode without the "
                "mode 'multivector'"
            )
        if rows.dtype.kind not in "fiu" or not (np.abs(rows) <= _LARGEST).all():
            raise InvalidInput(f"the multi-vector of {name} {_NOT_SOUND}")
