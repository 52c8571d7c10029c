"""transformers by itself in float32, as one writes it who has no library for it. Dense only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from encoding.adapters import LONG_BATCH, Array, Pooling, Vectors


class Adapter:
    """Batches of 32, sorted by length and padded to the longest, but for long texts."""

    packages = ("transformers", "torch")

    def __init__(self, model: Path, threads: int) -> None:
        self._pooling = Pooling(model)
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._model = AutoModel.from_pretrained(model, dtype=torch.float32).eval()

    def passages(self, texts: list[str], modes: Sequence[str], long: bool) -> Array:
        size = LONG_BATCH if long else 32
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        vectors = np.empty((len(texts), self._model.config.hidden_size), np.float32)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            vectors[rows] = self._encode([texts[i] for i in rows])
        return vectors

    def queries(self, texts: list[str], modes: Sequence[str]) -> Array:
        return self._encode(texts)

    def vectors(self, output: Array) -> Vectors:
        return Vectors(output)

    def _encode(self, texts: list[str]) -> Array:
        batch = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._pooling.max_length, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = self._model(**batch)[0]
        return self._pooling(hidden.numpy(), batch["attention_mask"].numpy())
