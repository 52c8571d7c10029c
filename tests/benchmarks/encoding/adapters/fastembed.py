"""fastembed with the fused ONNX graph as a model of one's own. Dense only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

from encoding.adapters import Array, Pooling, Vectors, read_json


class Adapter:
    """Its batch size of 256, in the order that texts come."""

    packages = ("fastembed", "onnxruntime")

    def __init__(self, model: Path, threads: int) -> None:
        pooling = Pooling(model)
        TextEmbedding.add_custom_model(
            model="benchmark/model",
            pooling=PoolingType.MEAN if pooling.mean else PoolingType.CLS,
            normalization=pooling.normalize,
            sources=ModelSource(hf="benchmark/model"),
            dim=read_json(model / "config.json")["hidden_size"],
            model_file="onnxruntime/fused.onnx",
            additional_files=["onnxruntime/fused.onnx.data"],
        )
        self._encoder = TextEmbedding("benchmark/model", specific_model_path=str(model), threads=threads)

    def passages(self, texts: list[str], modes: Sequence[str], long: bool) -> Array:
        return np.array(list(self._encoder.passage_embed(texts)))

    def queries(self, texts: list[str], modes: Sequence[str]) -> Array:
        return np.array(list(self._encoder.query_embed(texts)))

    def vectors(self, output: Array) -> Vectors:
        return Vectors(output)
