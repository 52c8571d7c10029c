"""The PyTorch backbone: transformers' own XLM-R or BERT modules over packed tokens."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from m3core.backbones import Linear
from m3core.backbones.kernels import choose_kernel, model_inputs
from m3core.backbones.memory import out_of_memory_named
from m3core.backbones.prepacked import PackedLinear, can_pack, pack_linears
from m3core.checkpoint import Checkpoint
from m3core.packing import Pack
from m3core.weights import load_body

_ROWS = 2048  # more are no faster


class TorchBackbone:
    """Runs a transformers model with the `m3_packed` attention over packs."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, attention: str) -> None:
        """Loads a model. Arguments as of `M3Encoder`, chosen.

        Raises:
            InvalidInput: the attention kernel cannot serve.
            InvalidModel: as `load_body`.
        """
        kernel = choose_kernel(attention, device, dtype, checkpoint.head_dim)
        model = load_body(checkpoint, dtype, device, words_stay=device.type == "cpu")
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.vocabulary: int = model.config.vocab_size
        self._model = model.eval()
        pack_linears(self._model)
        self._checkpoint, self.attention = checkpoint, kernel
        encoder: Any = model.encoder
        for layer in encoder.layer:  # in BERT and XLM-R alike
            layer.register_forward_pre_hook(_call_between, with_kwargs=True)
            if self.device.type == "cpu":
                layer.feed_forward_chunk = partial(_by_rows, layer.feed_forward_chunk)

    def forward(self, pack: Pack, between: Callable[[], object]) -> torch.Tensor:
        """See `Backbone.forward`. On an accelerator all layers are under way when it returns, and none need be done."""
        with out_of_memory_named(), torch.inference_mode():
            inputs = model_inputs(pack, self._checkpoint.position_padding, self.attention, self.device)
            states = self._model(**inputs, between=between).last_hidden_state
        assert isinstance(states, torch.Tensor)
        return states[0]

    def linear(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        """See `Backbone.linear`."""
        weight, bias = weight.to(self.device), None if bias is None else bias.to(self.device)
        layer = (
            PackedLinear(weight, bias)
            if can_pack(weight)
            else partial(torch.nn.functional.linear, weight=weight, bias=bias)
        )
        return Linear(len(weight), lambda states: layer(states.to(weight.dtype)))


def _by_rows(apply: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    """What a layer gives for `(1, tokens, hidden)`, from some tokens after the other: within it they are far wider."""
    if states.shape[1] <= _ROWS:
        return apply(states)
    made = torch.empty_like(states)
    for part, place in zip(states.split(_ROWS, 1), made.split(_ROWS, 1), strict=True):
        place.copy_(apply(part))
    return made


def _call_between(layer: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    named["between"]()  # of this forward pass, which need not be the only one on the stack
