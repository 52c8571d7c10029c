"""What tells whether a collection has a record as it is: hashes, and all of them at 16 bytes a record."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3core import M3Output, Record

_BYTES = 16
_TEXT = 24  # characters of a `content_hash` that are the `text_hash`


@dataclass(frozen=True, eq=False)
class Keys:
    """Which records there are, with which texts and metadata. Among 10^11 of them no two keys are likely to be alike.

    Attributes:
        sorted: `(n,)` keys of 16 bytes in ascending order.
    """

    sorted: npt.NDArray[np.bytes_]

    @classmethod
    def of(cls, contents: Mapping[str, str]) -> "Keys":
        """Of records by their ids and `content_hash`es."""
        return cls(np.sort(np.array([_key(*pair) for pair in contents.items()], dtype=f"S{_BYTES}")))

    @classmethod
    def joined(cls, keys: Sequence["Keys"]) -> "Keys":
        """All of them."""
        return cls(np.sort(np.concatenate([cls.of({}).sorted, *(some.sorted for some in keys)])))

    def __len__(self) -> int:
        return len(self.sorted)

    def lacking(self, records: Sequence[Record]) -> list[Record]:
        """Those of some records that are not there, or with another text or other metadata."""
        if not len(self):
            return list(records)
        held = self.hold([(record.id, text_hash(record)) for record in records])
        return [record for record, there in zip(records, held, strict=True) if not there]

    def hold(self, contents: Sequence[tuple[str, str]]) -> npt.NDArray[np.bool_]:
        """For each id and its `content_hash` whether they are there."""
        if not len(self):
            return np.zeros(len(contents), dtype=bool)
        keys = np.array([_key(*content) for content in contents], dtype=self.sorted.dtype)
        places = np.minimum(np.searchsorted(self.sorted, keys), len(self) - 1)
        return np.asarray(self.sorted[places] == keys)


def _key(record_id: str, content: str) -> bytes:
    return hashlib.blake2b(f"{content[:_TEXT]} {record_id}".encode(), digest_size=_BYTES).digest()


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
