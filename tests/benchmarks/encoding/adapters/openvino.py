"""sentence-transformers on OpenVINO with int8 weights. Dense only."""

from collections.abc import Sequence
from pathlib import Path

import optimum.intel  # noqa: F401 (sentence-transformers imports it when it loads)
from sentence_transformers import SentenceTransformer

from encoding.adapters import LONG_BATCH, Array, Vectors

_FILE = "openvino/openvino_model_int8.xml"


class Adapter:
    """As it comes, or with a batch size and a group of dynamic quantization that suit processors better."""

    packages = ("sentence-transformers", "openvino", "optimum-intel", "torch", "transformers")

    def __init__(self, model: Path, threads: int, batch: int = 32, group: int | None = None) -> None:
        settings = {"INFERENCE_NUM_THREADS": threads}
        if group:
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = group
        self._batch = batch
        self._encoder = SentenceTransformer(
            str(model), device="cpu", backend="openvino", model_kwargs={"file_name": _FILE, "ov_config": settings}
        )

    def passages(self, texts: list[str], modes: Sequence[str], long: bool) -> Array:
        batch = min(self._batch, LONG_BATCH) if long else self._batch
        return self._encoder.encode(texts, batch_size=batch, show_progress_bar=False)

    def queries(self, texts: list[str], modes: Sequence[str]) -> Array:
        return self._encoder.encode(texts, show_progress_bar=False)

    def vectors(self, output: Array) -> Vectors:
        return Vectors(output)
