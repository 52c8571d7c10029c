"""The PyTorch backbone: transformers' own XLM-R or BERT modules over packed tokens."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from m3core.backbones import Linear
from m3core.backbones.attention import Segments
from m3core.backbones.memory import out_of_memory_named
from m3core.backbones.prepacked import PackedLinear, can_pack, pack_linears
from m3core.checkpoint import Checkpoint
from m3core.packing import IntArray, Pack
from m3core.weights import load_body

_SMALL = 1024  # tokens, below which a layer takes a card no longer than it takes us to ask for it


class TorchBackbone:
    """Runs a transformers model with the `m3_packed` attention over packs."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
        """Loads a model. Raises as `load_body`."""
        model = load_body(checkpoint, dtype, device)
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.vocabulary: int = model.config.vocab_size
        self._model = model.eval()
        pack_linears(self._model)
        self._checkpoint = checkpoint
        encoder: Any = model.encoder
        for layer in encoder.layer:  # in BERT and XLM-R alike
            layer.register_forward_pre_hook(_call_between, with_kwargs=True)

    def forward(self, pack: Pack, between: Callable[[], object]) -> torch.Tensor:
        """See `Backbone.forward`."""

        def keep_pace() -> None:
            if self.device.type == "cuda" and len(pack.token_ids) > _SMALL:
                torch.cuda.synchronize(self.device)  # all layers would be queued at once, and nothing get in between
            between()

        checkpoint = self._checkpoint
        positions = pack.positions(checkpoint.position_padding)
        with out_of_memory_named(), torch.inference_mode():
            segments = Segments.of(pack, self.device, self.dtype, checkpoint.head_dim)
            states = self._model(
                input_ids=self._row(pack.token_ids),
                position_ids=self._row(positions),
                segments=segments,
                between=keep_pace,
            ).last_hidden_state
        assert isinstance(states, torch.Tensor)
        return states[0]

    def linear(self, weight: torch.Tensor, bias: torch.Tensor) -> Linear:
        """See `Backbone.linear`."""
        weight, bias = weight.to(self.device), bias.to(self.device)
        layer = (
            PackedLinear(weight, bias)
            if can_pack(weight)
            else partial(torch.nn.functional.linear, weight=weight, bias=bias)
        )
        return Linear(len(bias), lambda states: layer(states.to(weight.dtype)))

    def _row(self, values: IntArray) -> torch.Tensor:
        return torch.from_numpy(values)[None].to(self.device, non_blocking=True)


def _call_between(layer: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    named["between"]()  # of this forward pass, which need not be the only one on the stack
