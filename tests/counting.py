"""Counting what goes through the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from m3core.backbones.torch import TorchBackbone
from m3core.packing import Pack


@dataclass
class Passes:
    """Texts that were put through a model."""

    texts: int = 0


@contextmanager
def counted_passes() -> Iterator[Passes]:
    """Counts the texts in each forward pass of any encoder meanwhile."""
    passes = Passes()
    forward = TorchBackbone.forward

    def counting(self: TorchBackbone, pack: Pack) -> object:
        passes.texts += len(pack.lengths)
        return forward(self, pack)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchBackbone, "forward", counting)
        yield passes
