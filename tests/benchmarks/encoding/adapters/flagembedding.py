"""FlagEmbedding's `BGEM3FlagModel`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from FlagEmbedding import BGEM3FlagModel

from encoding.adapters import LONG_BATCH, Pooling, Vectors, flag_arguments, flag_vectors


class Adapter:
    """Its batch size of 256, but for long texts."""

    packages = ("FlagEmbedding", "torch", "transformers")

    def __init__(self, model: Path, threads: int, batch: int = 256) -> None:
        import torch

        pooling = Pooling(model)
        head = torch.load(model / "colbert_linear.pt", weights_only=True)
        self._batch = batch
        self._max_length = pooling.max_length
        self._encoder = BGEM3FlagModel(
            str(model),
            use_fp16=False,
            devices="cpu",
            pooling_method="mean" if pooling.mean else "cls",
            colbert_dim=len(head["weight"]),
        )

    def passages(self, texts: list[str], modes: Sequence[str], long: bool) -> dict[str, Any]:
        batch = min(self._batch, LONG_BATCH) if long else self._batch
        return self._encoder.encode(texts, max_length=self._max_length, batch_size=batch, **flag_arguments(modes))

    def queries(self, texts: list[str], modes: Sequence[str]) -> dict[str, Any]:
        return self._encoder.encode_queries(texts, **flag_arguments(modes))

    def vectors(self, output: dict[str, Any]) -> Vectors:
        return flag_vectors(output)
