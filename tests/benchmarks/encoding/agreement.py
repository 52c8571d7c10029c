"""Whether systems do the same work: their vectors beside those of `M3Encoder` in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def compare(path: Path, reference: Path) -> dict[str, float]:
    """How far the vectors in one file are from those in another, as workers write them.

    Returns:
        `dense`: the lowest cosine of a text's vectors; `sparse`: the largest difference of two weights of a token, as
        a share of the largest weight; `multivector`: the lowest cosine of two rows, or 0 if there are more or fewer.
        Only what is in the file.
    """
    found, wanted = np.load(path), np.load(reference)
    result = {"dense": _lowest_cosine(found["dense"], wanted["dense"])}
    if "sparse_counts" in found:
        away = [
            abs(a.get(token, 0.0) - b.get(token, 0.0))
            for a, b in zip(_sparse(found), _sparse(wanted), strict=True)
            for token in a.keys() | b.keys()
        ]
        result["sparse"] = float(max(away) / wanted["sparse_values"].max())
    if "multivector_counts" in found:
        same = np.array_equal(found["multivector_counts"], wanted["multivector_counts"])
        result["multivector"] = _lowest_cosine(found["multivector"], wanted["multivector"]) if same else 0.0
    return result


def _lowest_cosine(a: Array, b: Array) -> float:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float((np.einsum("nd,nd->n", a, b) / lengths).min())


def _sparse(arrays: Any) -> list[dict[int, float]]:
    ends = np.cumsum(arrays["sparse_counts"])[:-1]
    parts = (np.split(arrays[name], ends) for name in ("sparse_indices", "sparse_values"))
    return [dict(zip(i.tolist(), v.tolist(), strict=True)) for i, v in zip(*parts, strict=True)]
