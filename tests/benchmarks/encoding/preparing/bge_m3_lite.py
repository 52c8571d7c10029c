"""bge-m3-lite's own fused graph of the model, and the files that it wants beside it.

Its code does the work; it is told only what it cannot know of a model that is not bge-m3's release: that there may be
other than 24 layers, and what the tokenizer is, which becomes a SentencePiece file of the kind that it reads.
"""

import base64
import json
import shutil
import struct
from pathlib import Path
from typing import Any
from unittest import mock

from bge_m3_lite.fuse import fuse
from onnxruntime.transformers.optimizer import MODEL_TYPES

UNCHUNKED = "model_unchunked"
_LAYERS = 24  # that `fuse` wants to see
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3


def prepare(directory: Path) -> None:
    """Writes what its `hub` would have fetched into the folder of the exported graph, which has to be there."""
    folder = directory / "onnx"
    for name in ("sparse_linear.pt", "colbert_linear.pt"):
        shutil.copy(directory / name, folder)
    tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece(tokenizer))
    layers = json.loads((directory / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    graph_class = MODEL_TYPES["bert"][0]
    counted = graph_class.get_fused_operator_statistics

    def statistics(model: Any) -> dict[str, int]:
        found: dict[str, int] = counted(model)
        return found | {"Attention": _LAYERS} if found["Attention"] == layers else found

    with mock.patch.object(graph_class, "get_fused_operator_statistics", statistics):
        fuse(folder / "model.onnx")
        fuse(folder / "model.onnx", attention_chunk=0, basename=UNCHUNKED)  # as `quantize` makes it for itself


def sentencepiece(tokenizer: dict[str, Any]) -> bytes:
    """A unigram `tokenizer.json` of XLM-R's kind as a SentencePiece model: pieces, scores, and the normalizer's map.

    XLM-R puts `<pad>` before its unknown piece and `<mask>` behind all, which are not SentencePiece's.
    """
    pieces = [("<unk>", 0.0, _UNKNOWN), ("<s>", 0.0, _CONTROL), ("</s>", 0.0, _CONTROL)]
    pieces += [(piece, score, _NORMAL) for piece, score in tokenizer["model"]["vocab"][4:-1]]
    normalizers = tokenizer["normalizer"].get("normalizers", [tokenizer["normalizer"]])
    charsmap = next(n["precompiled_charsmap"] for n in normalizers if n["type"] == "Precompiled")
    message = b"".join(
        _field(1, _field(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind]))
        for piece, score, kind in pieces
    )
    return message + _field(3, _field(2, base64.b64decode(charsmap)))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    size, left = bytearray(), len(content)
    while left > 127:
        size.append(left & 127 | 128)
        left >>= 7
    return bytes([number << 3 | 2, *size, left]) + content
