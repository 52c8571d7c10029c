"""Backbones: packed token ids in, hidden states of those tokens out."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from m3core.packing import Pack


class Backbone(Protocol):
    """A transformer encoder that takes texts of any length side by side.

    Attributes:
        device: where the hidden states are.
        dtype: what matrix products of theirs are best made in.
        vocabulary: how many tokens it knows.
    """

    device: "torch.device"
    dtype: "torch.dtype"
    vocabulary: int

    def forward(self, pack: "Pack", between: Callable[[], object]) -> "torch.Tensor":
        """The last hidden state of every token of the pack, `(tokens, hidden)`, in the pack's order.

        Args:
            pack: the texts.
            between: is called again and again, and may run another pack.

        Raises:
            OutOfMemory: the pack is too large for the device.
        """
        ...
