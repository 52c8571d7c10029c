"""What an encoder returns: `M3Output`, and the `SparseVector` and `Fingerprint` in it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from m3core.errors import InvalidInput

Mode = Literal["dense", "sparse", "multivector"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""The three representations, in the order that weights are given in."""

FloatArray = npt.NDArray[np.float32]
Index = int | slice | Sequence[int] | npt.NDArray[Any]

_FORMAT = "m3-output/1"


@dataclass(frozen=True, eq=False)
class SparseVector:
    """A sparse (lexical) representation: one weight for each distinct token id of a text.

    Attributes:
        indices: `(nnz,)` int32 token ids, strictly increasing.
        values: `(nnz,)` float32 weights, of the same length.

    Raises:
        InvalidInput: the lengths differ, or an id is negative, repeated or out of order.
    """

    indices: npt.NDArray[np.int32]
    values: FloatArray

    def __post_init__(self) -> None:
        indices = np.asarray(self.indices)
        if indices.dtype.kind not in "iu" and len(indices):
            raise InvalidInput(f"a SparseVector's indices are token ids, whole numbers, not {indices.dtype}")
        if indices.size and int(indices.max()) > np.iinfo(np.int32).max:
            raise InvalidInput(f"a SparseVector's indices are token ids below 2^31, not {indices.max()}")
        object.__setattr__(self, "indices", indices.astype(np.int32, copy=False))
        object.__setattr__(self, "values", np.asarray(self.values, dtype=np.float32))
        if self.indices.ndim != 1 or self.indices.shape != self.values.shape:
            raise InvalidInput(
                "a SparseVector takes two one-dimensional arrays of the same length, not shapes "
                f"{self.indices.shape} and {self.values.shape}"
            )
        if len(self.indices) and (self.indices[0] < 0 or (np.diff(self.indices) <= 0).any()):
            raise InvalidInput("a SparseVector's indices must be non-negative and strictly increasing")

    def __len__(self) -> int:
        return len(self.indices)

    def as_dict(self) -> dict[int, float]:
        """The weights as `{token id: weight}`."""
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))


@dataclass(frozen=True)
class Fingerprint:
    """What made an output. Vectors with different fingerprints must not be compared or mixed.

    Attributes:
        model: the hub id, or the name of the model's directory.
        revision: the hub commit, or a hash of the local weights.
        modes: what the model can represent (not only what one call asked for).
        dense_dim: width of the dense vectors.
        multivector_dim: width of each row of a multi-vector, or `None`.
        pooling: `"cls"` or `"mean"`.
        normalize: whether dense vectors have unit length.
        max_length: the longest text in tokens, special tokens included.
        instruction: what is put before each query.
        mcls: before how many tokens of a text a CLS token goes, if not only before the first.
    """

    model: str
    revision: str
    modes: tuple[Mode, ...]
    dense_dim: int
    multivector_dim: int | None
    pooling: str
    normalize: bool
    max_length: int
    instruction: str | None = None
    mcls: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "modes", tuple(self.modes))  # JSON gives back a list


@dataclass(frozen=True, eq=False)
class M3Output:
    """Representations of `n` texts. A mode that was not asked for is `None`.

    Attributes:
        dense: `(n, d)` float32.
        sparse: `n` `SparseVector`s.
        multivector: `n` arrays `(t, d)` float32 with rows of unit length, one for each token of the text
            and one for `</s>`.
        score_weights: the model's weights for (dense, sparse, multi-vector) in the hybrid score.
        fingerprint: what made it, if known.

    Slicing and indexing select texts and always give an `M3Output`: `out[0]`, `out[2:5]`, `out[[4, 1]]`.

    Raises:
        InvalidInput: no mode at all, wrong shapes, or modes of different lengths.
    """

    dense: FloatArray | None = None
    sparse: Sequence[SparseVector] | None = None
    multivector: Sequence[FloatArray] | None = None
    score_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fingerprint: Fingerprint | None = None

    def __post_init__(self) -> None:
        if self.dense is not None:
            object.__setattr__(self, "dense", np.asarray(self.dense, dtype=np.float32))
            if self.dense.ndim != 2:
                raise InvalidInput(f"dense must have the shape (n, d), not {self.dense.shape}")
        if self.multivector is not None:
            widths = {m.shape[1] if m.ndim == 2 else None for m in self.multivector}
            if len(widths) > 1 or None in widths:
                raise InvalidInput("multivector must be a list of (t, d) arrays with one d for all")
        sizes = {mode: len(getattr(self, mode)) for mode in self.modes}
        if len(set(sizes.values())) != 1:
            raise InvalidInput(f"an M3Output needs at least one mode, and as many items in each, not {sizes}")

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that are present."""
        return tuple(mode for mode in MODES if getattr(self, mode) is not None)

    def __len__(self) -> int:
        return len(getattr(self, self.modes[0]))

    def __getitem__(self, index: Index) -> "M3Output":
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"text {index} of an M3Output with {len(self)} texts")
            index = [int(index)]
        if isinstance(index, tuple):
            index = list(index)
        rows = np.arange(len(self))[index].tolist()
        return M3Output(
            None if self.dense is None else self.dense[rows],
            None if self.sparse is None else [self.sparse[i] for i in rows],
            None if self.multivector is None else [self.multivector[i] for i in rows],
            self.score_weights,
            self.fingerprint,
        )

    def __iter__(self) -> Iterator["M3Output"]:
        return (self[i] for i in range(len(self)))

    @staticmethod
    def concat(outputs: Iterable["M3Output"]) -> "M3Output":
        """Joins outputs of one encoder, in order; those of `iter_encode`, say.

        Raises:
            InvalidInput: no outputs, or outputs whose modes, weights or fingerprints differ.
        """
        outputs = list(outputs)
        if not outputs:
            raise InvalidInput("concat needs at least one M3Output")
        first = outputs[0]
        for other in outputs[1:]:
            for what in ("modes", "score_weights", "fingerprint"):
                if getattr(first, what) != getattr(other, what):
                    raise InvalidInput(
                        f"outputs with different {what} cannot be joined: "
                        f"{getattr(first, what)} and {getattr(other, what)}"
                    )
        if len({o.dense.shape[1] for o in outputs if o.dense is not None}) > 1:
            raise InvalidInput("outputs whose dense vectors have different widths cannot be joined")
        return M3Output(
            None if first.dense is None else np.concatenate([o.dense for o in outputs if o.dense is not None]),
            None if first.sparse is None else [v for o in outputs for v in o.sparse or ()],
            None if first.multivector is None else [m for o in outputs for m in o.multivector or ()],
            first.score_weights,
            first.fingerprint,
        )

    def score(self, other: "M3Output", *, weights: tuple[float, float, float] | None = None) -> FloatArray:
        """The hybrid score of each of these queries with each document of `other`.

        w_dense · (q·d) + w_sparse · Σ w_q(t)·w_d(t) + w_multi · MaxSim(q, d), not divided by the weights
        (BGE-M3, arXiv 2402.03216, section 3.2). MaxSim is the mean over the query's tokens.

        Args:
            other: the documents.
            weights: for (dense, sparse, multi-vector); `None` takes `score_weights` for the modes that both have.

        Returns:
            `(len(self), len(other))` float32.

        Raises:
            UnsupportedMode: a weight is not zero for a mode that either side lacks, or no mode is in common.
        """
        from m3core.scoring import score  # scoring builds on this module

        return score(self, other, weights=weights)

    def save(self, path: str | Path) -> None:
        """Writes everything, without loss, to one safetensors file, whole or not at all.

        Args:
            path: the file; an existing one is replaced.
        """
        from safetensors.numpy import save_file

        tensors: dict[str, npt.NDArray[Any]] = {}
        if self.dense is not None:
            tensors["dense"] = np.ascontiguousarray(self.dense)
        if self.sparse is not None:
            tensors["sparse.lengths"] = np.array([len(v) for v in self.sparse], dtype=np.int64)
            tensors["sparse.indices"] = _join([v.indices for v in self.sparse], (0,), np.int32)
            tensors["sparse.values"] = _join([v.values for v in self.sparse], (0,), np.float32)
        if self.multivector is not None:
            width = self.multivector[0].shape[1] if len(self.multivector) else 0
            tensors["multivector.lengths"] = np.array([len(m) for m in self.multivector], dtype=np.int64)
            tensors["multivector.values"] = _join(self.multivector, (0, width), np.float32)
        metadata = {"format": _FORMAT, "score_weights": json.dumps(self.score_weights)}
        if self.fingerprint is not None:
            metadata["fingerprint"] = json.dumps(asdict(self.fingerprint))
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        save_file(tensors, partial, metadata)
        partial.replace(path)

    @staticmethod
    def load(path: str | Path) -> "M3Output":
        """Reads what `save` wrote.

        Raises:
            InvalidInput: the file is no M3Output.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise InvalidInput(f"{path} is not a file that M3Output.save wrote: {error}") from error
        if metadata.get("format") != _FORMAT:
            raise InvalidInput(f"{path} is not a file that M3Output.save wrote (no format {_FORMAT!r} in it)")
        sparse = multivector = None
        if "sparse.lengths" in tensors:
            cuts = np.cumsum(tensors["sparse.lengths"])[:-1]
            pairs = zip(
                np.split(tensors["sparse.indices"], cuts), np.split(tensors["sparse.values"], cuts), strict=True
            )
            sparse = [SparseVector(i, v) for i, v in pairs][: len(tensors["sparse.lengths"])]
        if "multivector.lengths" in tensors:
            lengths = tensors["multivector.lengths"]
            multivector = np.split(tensors["multivector.values"], np.cumsum(lengths)[:-1])[: len(lengths)]
        fingerprint = metadata.get("fingerprint")
        dense, sparse_weight, multi = json.loads(metadata["score_weights"])
        return M3Output(
            tensors.get("dense"),
            sparse,
            multivector,
            (dense, sparse_weight, multi),
            Fingerprint(**json.loads(fingerprint)) if fingerprint else None,
        )


def _join(arrays: Sequence[npt.NDArray[Any]], empty: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if len(arrays) else np.zeros(empty, dtype=dtype)
