"""`M3Encoder`, by the options that it is made with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoding.adapters import Vectors
from m3core import M3Encoder, M3Output


class Adapter:
    """Packs texts without padding."""

    packages = ("torch", "transformers", "openvino")

    def __init__(self, model: Path, threads: int, **options: Any) -> None:
        self._encoder = M3Encoder(model, device="cpu", **options)

    def passages(self, texts: list[str], modes: Sequence[str], long: bool) -> M3Output:
        return self._encoder.encode_documents(texts, modes=modes)

    def queries(self, texts: list[str], modes: Sequence[str]) -> M3Output:
        return self._encoder.encode_queries(texts, modes=modes)

    def vectors(self, output: M3Output) -> Vectors:
        sparse = None if output.sparse is None else [vector.as_dict() for vector in output.sparse]
        return Vectors(output.dense, sparse, output.multivector)
