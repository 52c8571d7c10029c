"""ONNX Runtime by itself, with a graph that its optimizer has fused, in float32 or dynamic int8. Dense only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from encoding.adapters import Array, Pooling, Vectors

_BUDGET = 1024


class Adapter:
    """Batches of up to 1,024 padded tokens of texts sorted by length in tokens, and a longer text alone."""

    packages = ("onnxruntime", "tokenizers")

    def __init__(self, model: Path, threads: int, graph: str) -> None:
        self._pooling = Pooling(model)
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer.enable_truncation(self._pooling.max_length)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        path = str(model / "onnxruntime" / f"{graph}.onnx")
        self._session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

    def passages(self, texts: list[str], modes: Sequence[str], long: bool) -> Array:
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        vectors: list[Array | None] = [None] * len(ids)
        while order:
            rows = order[: max(1, _BUDGET // len(ids[order[0]]))]
            del order[: len(rows)]
            for row, vector in zip(rows, self._encode([ids[i] for i in rows]), strict=True):
                vectors[row] = vector
        return np.array(vectors)

    def queries(self, texts: list[str], modes: Sequence[str]) -> Array:
        return self.passages(texts, modes, False)

    def vectors(self, output: Array) -> Vectors:
        return Vectors(output)

    def _encode(self, ids: list[list[int]]) -> Array:
        tokens = np.ones((len(ids), max(map(len, ids))), np.int64)
        mask = np.zeros_like(tokens)
        for row, text in enumerate(ids):
            tokens[row, : len(text)] = text
            mask[row, : len(text)] = 1
        (hidden,) = self._session.run(None, {"input_ids": tokens, "attention_mask": mask})
        return self._pooling(hidden, mask)
