"""bge-m3-lite, with its own fused graph in float32, or its own int8 one.

It fetches its files from fixed places and checks their hashes. Those of this model are made by its own code, in
`encoding.preparing.bge_m3_lite`, and are given to it in place of what it would fetch. Graph, quantization, tokenizer,
batches and heads are its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bge_m3_lite import BGEM3Embedder, hub

from encoding.adapters import Vectors, flag_arguments, flag_vectors


class Adapter:
    """Its batches: 12 texts and 16,384 padded tokens at most, longest first."""

    packages = ("bge-m3-lite", "onnxruntime")

    def __init__(self, model: Path, threads: int, precision: str) -> None:
        folder = model / "onnx"
        hub.ensure_files = lambda files, *_, **__: {file.name: folder / file.name for file in files}
        self._encoder = BGEM3Embedder(num_threads=threads, precision=precision)

    def passages(self, texts: list[str], modes: Sequence[str], long: bool) -> dict[str, Any]:
        return self._encoder.encode(texts, **flag_arguments(modes))

    def queries(self, texts: list[str], modes: Sequence[str]) -> dict[str, Any]:
        return self._encoder.encode_queries(texts, **flag_arguments(modes))

    def vectors(self, output: dict[str, Any]) -> Vectors:
        return flag_vectors(output)
