"""`ForwardPass`: a model on one device of this process. Packs in, representations out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from m3core.backbones import Backbone
from m3core.backbones.engines import choose_device, choose_dtype, choose_engine
from m3core.checkpoint import Checkpoint
from m3core.heads import Heads
from m3core.packing import Group, Pack, PackOutput
from m3core.weights import load_heads

_CPU_TOKENS = 2048
# Enough for matrix products at full speed, and what a card of 2020 or later does in 20 to 100 ms with bge-m3: a query
# waits for two packs at most, the one under way and the one that was started behind it.
_ACCELERATOR_TOKENS = 16384


@dataclass(frozen=True)
class Source:
    """What to load, on whichever device.

    Attributes:
        checkpoint: the model.
        special_ids: the tokenizer's ids that never count lexically.
        engine: as of `M3Encoder`.
        dtype: as of `M3Encoder`.
        attention: as of `M3Encoder`.
        normalize: as of `M3Encoder`.
        mcls: as of `M3Encoder`.
    """

    checkpoint: Checkpoint
    special_ids: frozenset[int]
    engine: str
    dtype: str
    attention: str
    normalize: bool | None
    mcls: int | None


@dataclass(frozen=True)
class Traits:
    """What became of a model when it was loaded.

    Attributes:
        device: where it runs.
        engine: what runs it.
        dtype: what it computes in.
        attention: the kernel that attends.
        normalize: whether dense vectors get unit length.
        multivector_dim: width of a multi-vector's rows, or `None`.
        vocabulary: how many tokens it knows.
        batch_tokens: how many tokens the device takes at once, if nobody says otherwise.
    """

    device: str
    engine: str
    dtype: str
    attention: str
    normalize: bool
    multivector_dim: int | None
    vocabulary: int
    batch_tokens: int


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """Backbone and heads; a `Runner`. Has no state, so that one pack can be run between the layers of another."""

    traits: Traits
    backbone: Backbone
    heads: Heads

    @property
    def interruptible(self) -> bool:
        """On a CPU. An accelerator is asked for all layers at once, and does a pack while a CPU does a layer."""
        return self.backbone.device.type == "cpu"

    @property
    def ahead(self) -> bool:
        """On CUDA, where nothing that `run` does waits for the card."""
        return self.backbone.device.type == "cuda"

    @classmethod
    def load(cls, source: Source, device: str | None) -> "ForwardPass":
        """Loads a model. Raises as `M3Encoder` does."""
        target = choose_device(device)
        checkpoint = source.checkpoint
        engine = choose_engine(source.engine, source.attention, target, checkpoint)
        dtype = choose_dtype(source.dtype, target, engine)
        backbone = _backbone(engine, source, dtype, target)
        heads = load_heads(
            checkpoint, backbone.linear, backbone.dtype, source.special_ids, source.normalize, source.mcls
        )
        traits = Traits(
            device=str(backbone.device),
            engine=engine,
            dtype=dtype,
            attention=backbone.attention,
            normalize=heads.normalize,
            multivector_dim=None if heads.multivector is None else heads.multivector.width,
            vocabulary=backbone.vocabulary,
            batch_tokens=_CPU_TOKENS if target.type == "cpu" else _ACCELERATOR_TOKENS,
        )
        return cls(traits, backbone, heads)

    def run(self, pack: Pack, groups: Sequence[Group], between: Callable[[], object]) -> Callable[[], list[PackOutput]]:
        """See `Runner.run`."""
        states = self.backbone.forward(pack, between if self.interruptible else int)
        return self.heads.apply(states, pack, groups)

    def close(self) -> None:
        """Nothing to end: its memory is free when nobody refers to it."""


def _backbone(engine: str, source: Source, dtype: str, device: torch.device) -> Backbone:
    if engine == "openvino":
        from m3core.backbones.openvino import OpenVinoBackbone

        return OpenVinoBackbone(source.checkpoint, dtype)
    from m3core.backbones.torch import TorchBackbone

    return TorchBackbone(source.checkpoint, getattr(torch, dtype), device, source.attention)
