"""sentence-transformers on torch, in float32 or another dtype. It has dense vectors only for these models."""

from collections.abc import Sequence
from pathlib import Path

from sentence_transformers import SentenceTransformer

from encoding.adapters import LONG_BATCH, Array, Vectors


class Adapter:
    """Its batch size of 32, but for long texts."""

    packages = ("sentence-transformers", "torch", "transformers")

    def __init__(self, model: Path, threads: int, dtype: str = "float32", batch: int = 32) -> None:
        self._batch = batch
        self._encoder = SentenceTransformer(str(model), device="cpu", model_kwargs={"dtype": dtype})

    def passages(self, texts: list[str], modes: Sequence[str], long: bool) -> Array:
        batch = min(self._batch, LONG_BATCH) if long else self._batch
        return self._encoder.encode(texts, batch_size=batch, show_progress_bar=False)

    def queries(self, texts: list[str], modes: Sequence[str]) -> Array:
        return self._encoder.encode(texts, show_progress_bar=False)

    def vectors(self, output: Array) -> Vectors:
        return Vectors(output)
