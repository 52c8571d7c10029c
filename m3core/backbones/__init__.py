"""Backbones: packed token ids in, hidden states of those tokens out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from m3core.packing import Pack


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer on hidden states.

    Attributes:
        width: of what it gives.
        apply: `(n, hidden)` in, `(n, width)` out, both where the backbone's hidden states are.
    """

    width: int
    apply: Callable[["torch.Tensor"], "torch.Tensor"]


class Backbone(Protocol):
    """A transformer encoder that takes texts of any length side by side.

    Attributes:
        device: where the hidden states are.
        dtype: what matrix products of theirs are best made in.
        vocabulary: how many tokens it knows.
        attention: the kernel that attends.
    """

    device: "torch.device"
    dtype: "torch.dtype"
    vocabulary: int
    attention: str

    def forward(self, pack: "Pack", between: Callable[[], object]) -> "torch.Tensor":
        """The last hidden state of every token of the pack, `(tokens, hidden)`, in the pack's order.

        Args:
            pack: the texts.
            between: is called again and again, and may run another pack.

        Raises:
            OutOfMemory: the pack is too large for the device.
        """
        ...

    def linear(self, weight: "torch.Tensor", bias: "torch.Tensor | None") -> Linear:
        """A layer that runs as the backbone does, and computes in the dtype of its weight.

        Args:
            weight: `(width, hidden)`.
            bias: `(width,)` in the same dtype, or `None`.
        """
        ...
