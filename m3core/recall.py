"""What a cache keeps of an `M3Output`: each text's representation by each mode, as bytes, under a key of its own."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3core.cache import VectorCache
from m3core.errors import InvalidInput
from m3core.output import Fingerprint, FloatArray, M3Output, Mode, SparseVector

_FORMAT = 1  # changes with what the bytes mean


@dataclass(frozen=True)
class Recall:
    """The representations of one encoder in a cache.

    Attributes:
        cache: where they are.
        fingerprint: of the encoder.
        dtype: what it computes in.
        max_length: at which texts are cut.
    """

    cache: VectorCache
    fingerprint: Fingerprint
    dtype: str
    max_length: int

    def output(self, texts: Sequence[str], modes: Sequence[Mode], encode: Callable[[list[str]], M3Output]) -> M3Output:
        """The representations of texts: those that are kept, and of the others what `encode` makes, which is kept too.

        Args:
            texts: any number; one that comes several times is encoded once.
            modes: which ones.
            encode: makes representations of some texts, or of none, by these modes.
        """
        keys = {text: [self._key(text, mode) for mode in modes] for text in dict.fromkeys(texts)}
        found = self.cache.get([key for named in keys.values() for key in named])
        held = {
            key: value
            for named in keys.values()
            for key, mode in zip(named, modes, strict=True)
            if key in found and (value := self._unpacked(mode, found[key])) is not None
        }
        missing = [text for text, named in keys.items() if not all(key in held for key in named)]
        fresh = encode(missing)
        values: dict[bytes, Any] = {}
        for row, text in enumerate(missing):
            values.update(zip(keys[text], (getattr(fresh, mode)[row] for mode in modes), strict=True))
        self.cache.put({key: _packed(value) for key, value in values.items() if key not in held})
        columns: dict[Mode, list[Any]] = {
            mode: [values[key] if (key := keys[text][place]) in values else held[key] for text in texts]
            for place, mode in enumerate(modes)
        }
        dense: FloatArray | None = None
        if "dense" in columns:
            dense = np.array(columns["dense"], dtype=np.float32).reshape(len(texts), self.fingerprint.dense_dim)
        return M3Output(
            dense,
            columns.get("sparse"),
            columns.get("multivector"),
            fresh.score_weights,
            fresh.fingerprint,
        )

    def _key(self, text: str, mode: Mode) -> bytes:
        made_by = self.fingerprint
        scope = [_FORMAT, made_by.model, made_by.revision, made_by.pooling, made_by.normalize, self.dtype]
        scope += [] if made_by.mcls is None else [made_by.mcls]
        named = json.dumps([*scope, self.max_length, mode, text])
        return hashlib.blake2b(named.encode(), digest_size=20).digest()

    def _unpacked(self, mode: Mode, data: bytes) -> SparseVector | FloatArray | None:
        """What `_packed` wrote; `None` if it is damaged."""
        width = {"dense": self.fingerprint.dense_dim, "sparse": 2}.get(mode, self.fingerprint.multivector_dim or 1)
        if len(data) % (4 * width) or (mode == "dense" and len(data) != 4 * width):
            return None
        if mode != "sparse":
            values: FloatArray = _array(data, np.float32)
            return values if mode == "dense" else values.reshape(-1, width)
        half = len(data) // 2
        try:
            return SparseVector(_array(data[:half], np.int32), _array(data[half:], np.float32))
        except InvalidInput:
            return None


def _array(data: bytes, dtype: type) -> Any:
    return np.frombuffer(data, dtype).copy()  # what a buffer gives cannot be written to


def _packed(value: SparseVector | FloatArray) -> bytes:
    if isinstance(value, SparseVector):
        return value.indices.tobytes() + value.values.tobytes()
    return np.ascontiguousarray(value, dtype=np.float32).tobytes()
