"""What tells whether a collection has a record as it is: hashes, and all of them at 16 bytes a record."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3core import M3Output, Record
from m3stores.collection import Comparison

_BYTES = 16
_TEXT = 24  # characters of a `content_hash` that are the `text_hash`


@dataclass(frozen=True, eq=False)
class Keys:
    """Which records there are, with which texts and metadata. Among 10^11 of them no two keys are likely to be alike.

    Attributes:
        contents: `(n,)` keys of 16 bytes, of ids with texts and metadata, in ascending order.
        ids: `(n,)` likewise, of ids alone.
    """

    contents: npt.NDArray[np.bytes_]
    ids: npt.NDArray[np.bytes_]

    @classmethod
    def of(cls, contents: Mapping[str, str]) -> "Keys":
        """Of records by their ids and `content_hash`es."""
        return cls(np.sort(_keys(contents.items())), np.sort(_keys((record_id, "") for record_id in contents)))

    @classmethod
    def joined(cls, keys: Sequence["Keys"]) -> "Keys":
        """All of them."""
        keys = [cls.of({}), *keys]
        return cls(np.sort(np.concatenate([k.contents for k in keys])), np.sort(np.concatenate([k.ids for k in keys])))

    def __len__(self) -> int:
        return len(self.ids)

    def compare(self, records: Sequence[Record]) -> Comparison:
        """Tells which of some records are not there, or with another text or other metadata."""
        held = _among(self.contents, _keys((record.id, text_hash(record)) for record in records))
        differing = [record for record, there in zip(records, held, strict=True) if not there]
        known = _among(self.ids, _keys((record.id, "") for record in differing))
        return Comparison(differing, len(differing) - int(known.sum()))

    def among(self, ids: Sequence[str]) -> list[str]:
        """Those of some ids that are there."""
        held = _among(self.ids, _keys((record_id, "") for record_id in ids))
        return [record_id for record_id, there in zip(ids, held, strict=True) if there]


def _keys(contents: Iterable[tuple[str, str]]) -> npt.NDArray[np.bytes_]:
    made = [hashlib.blake2b(f"{content[:_TEXT]} {i}".encode(), digest_size=_BYTES).digest() for i, content in contents]
    return np.array(made, dtype=f"S{_BYTES}")


def _among(held: npt.NDArray[np.bytes_], keys: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
    if not len(held) or not len(keys):
        return np.zeros(len(keys), dtype=bool)
    places = np.minimum(np.searchsorted(held, keys), len(held) - 1)
    return np.asarray(held[places] == keys)


def content_hash(record: Record, output: M3Output, row: int) -> str:
    """Of all that a record is stored with: behind its `text_hash` that of its representations, bit by bit."""
    digest = hashlib.blake2b(digest_size=12)
    for mode in output.modes:
        digest.update(mode.encode())
        values = getattr(output, mode)[row]
        for array in (values.indices, values.values) if mode == "sparse" else (values,):
            digest.update(np.ascontiguousarray(array).data)
    return text_hash(record) + digest.hexdigest()


def text_hash(record: Record) -> str:
    """Of a record's text and metadata."""
    content = json.dumps([record.text, record.metadata], ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=_TEXT // 2).hexdigest()
