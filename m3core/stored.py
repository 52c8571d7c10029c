"""Weights in a safetensors file, of which no more need be in memory than a part at a time."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_PART = 1 << 23  # values at once


class Stored:
    """The floating-point tensors of a file, but for those without dimensions.

    Attributes:
        path: of the file.
        shapes: by name.
        dtypes: that occur.
    """

    def __init__(self, path: Path) -> None:
        """Reads what the file says of itself. Raises as `safetensors.safe_open` does."""
        self.path = path
        with safe_open(path, "pt") as file:
            held = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            held = {name: part for name, part in held.items() if part.get_shape() and part.get_dtype() in _FLOATS}
            self.shapes = {name: tuple(part.get_shape()) for name, part in held.items()}
            self.dtypes = {_FLOATS[part.get_dtype()] for part in held.values()}

    def parts(self, name: str) -> Iterator[tuple[slice, torch.Tensor]]:
        """Some rows of a tensor after the other, and which they are. The file is mapped anew for each."""
        shape = self.shapes[name]
        rows = max(1, _PART // max(1, torch.Size(shape[1:]).numel()))
        for first in range(0, shape[0], rows):
            with safe_open(self.path, "pt") as file:
                yield slice(first, first + rows), file.get_slice(name)[first : first + rows]

    def converted(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """A copy of a tensor in another dtype."""
        made = torch.empty(self.shapes[name], dtype=dtype)
        for rows, values in self.parts(name):
            made[rows] = values
        return made

    def mapped(self, name: str) -> torch.Tensor:
        """A tensor as it lies in the file: rows are read when they are used, and the system may drop them again."""
        with safe_open(self.path, "pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor


class StoredWords(torch.nn.Module):
    """Word embeddings of which only the rows that are looked up are read, and converted; for CPUs.

    The table is the largest of a multilingual model's weights, nearly half of bge-m3's, and a text needs little of it.
    """

    weight: torch.Tensor

    def __init__(self, table: torch.Tensor, dtype: torch.dtype) -> None:
        """Takes a table, `(words, hidden)`, as `Stored.mapped` gives it, and what to make of its rows."""
        super().__init__()
        self.register_buffer("weight", table)
        self._dtype = dtype

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """`(…)` token ids in, `(…, hidden)` out."""
        rows: torch.Tensor = torch.nn.functional.embedding(token_ids, self.weight)
        return rows.to(self._dtype)
