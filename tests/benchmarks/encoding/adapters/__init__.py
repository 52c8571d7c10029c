"""The systems of the encoder benchmark behind one shape, `Adapter`: one module each, which has a class of that name.

A module imports all that its system needs at its top, so that the time of its import is that of the system, and
nothing of this package that needs more than NumPy: it runs in the environment of its system.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
LONG_BATCH = 12  # of FlagEmbedding's example for texts of up to 8192 tokens, for all that pad a number of texts


class Vectors(NamedTuple):
    """What a system makes of texts; `None` where it was not asked for, or does not have it."""

    dense: Array
    sparse: list[dict[int, float]] | None = None
    multivector: list[Array] | None = None


class Adapter(Protocol):
    """A system that has loaded a model.

    Attributes:
        packages: the distributions whose versions are told.
    """

    packages: tuple[str, ...]

    def __init__(self, model: Path, threads: int, **options: Any) -> None:
        """Loads a model directory."""

    def passages(self, texts: list[str], modes: Sequence[str], long: bool) -> Any:
        """Encodes passages; `long` says that some are much longer than the others."""

    def queries(self, texts: list[str], modes: Sequence[str]) -> Any:
        """Encodes queries."""

    def vectors(self, output: Any) -> Vectors:
        """What an output says, in a form that can be compared."""


class Pooling:
    """How the dense vectors of a model come of its hidden states, for systems that leave that to their users."""

    def __init__(self, model: Path) -> None:
        self.mean: bool = read_json(model / "1_Pooling" / "config.json")["pooling_mode_mean_tokens"]
        self.normalize = any(module["path"] == "2_Normalize" for module in read_json(model / "modules.json"))
        self.max_length: int = read_json(model / "sentence_bert_config.json")["max_seq_length"]

    def __call__(self, hidden: Array, mask: Array) -> Array:
        """The vectors of `(texts, tokens, width)` hidden states under a `(texts, tokens)` mask of ones and zeros."""
        if self.mean:
            vectors = np.einsum("btw,bt->bw", hidden, mask.astype(hidden.dtype)) / mask.sum(1, keepdims=True)
        else:
            vectors = hidden[:, 0]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if self.normalize else vectors


def read_json(path: Path) -> Any:
    """What a file says."""
    return json.loads(path.read_text(encoding="utf-8"))


def flag_arguments(modes: Sequence[str]) -> dict[str, bool]:
    """What FlagEmbedding is asked for these modes with; bge-m3-lite has taken that over."""
    names = {"dense": "return_dense", "sparse": "return_sparse", "multivector": "return_colbert_vecs"}
    return {name: mode in modes for mode, name in names.items()}


def flag_vectors(output: dict[str, Any]) -> Vectors:
    """What FlagEmbedding answers with, and bge-m3-lite too."""
    lexical = output["lexical_weights"]
    sparse = None if lexical is None else [{int(i): float(w) for i, w in weights.items()} for weights in lexical]
    return Vectors(output["dense_vecs"], sparse, output["colbert_vecs"])
