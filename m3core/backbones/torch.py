"""The PyTorch backbone: transformers' own XLM-R or BERT modules over packed tokens."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from m3core.backbones.kernels import attend_with
from m3core.backbones.memory import out_of_memory_named
from m3core.backbones.transfer import upload
from m3core.checkpoint import Checkpoint
from m3core.errors import InvalidInput
from m3core.packing import IntArray, Pack


class TorchBackbone:
    """Runs a transformers model, loaded with the `m3_packed` attention, over packs."""

    def __init__(self, model: PreTrainedModel, checkpoint: Checkpoint, kernel: str) -> None:
        """Takes a model that is already on its device and in its dtype, and the attention kernel to use."""
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self._model = model.eval()
        self._checkpoint, self._kernel = checkpoint, kernel
        encoder: Any = model.encoder
        for layer in encoder.layer:  # in BERT and XLM-R alike
            layer.register_forward_pre_hook(_call_between, with_kwargs=True)

    def forward(self, pack: Pack, between: Callable[[], object]) -> torch.Tensor:
        """See `Backbone.forward`. On an accelerator all layers are under way when it returns, and none need be done."""
        positions = position_ids(pack, self._checkpoint.position_padding)
        with out_of_memory_named(), torch.inference_mode():
            rows = upload(np.stack([pack.token_ids, positions]), self.device)
            states = self._model(
                input_ids=rows[:1],
                position_ids=rows[1:],
                attend=attend_with(self._kernel, pack, self.device),
                between=between,
            ).last_hidden_state
        assert isinstance(states, torch.Tensor)
        return states[0]


def _call_between(layer: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    named["between"]()  # of this forward pass, which need not be the only one on the stack


def position_ids(pack: Pack, padding_id: int | None) -> IntArray:
    """The position of each token in its text.

    BERT counts from 0. XLM-R and RoBERTa count from the padding id + 1, and pass over padding tokens, which a text can
    hold if it spells them out.

    Args:
        pack: the tokens.
        padding_id: the padding token's id, or `None` for BERT.

    Returns:
        `(tokens,)` int64.
    """
    if padding_id is None:
        return np.arange(len(pack.token_ids)) - np.repeat(pack.starts, pack.lengths)
    counts = pack.token_ids != padding_id
    running = np.cumsum(counts)
    before = running[pack.starts] - counts[pack.starts]
    return np.where(counts, running - np.repeat(before, pack.lengths), 0) + padding_id


def choose_device(device: str | None) -> torch.device:
    """The device asked for, or else the best one there is.

    Raises:
        InvalidInput: torch knows no such device, or cannot use it here.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InvalidInput(
            f"device {device!r} cannot be used here: {str(error).splitlines()[0]}; "
            "pass device=None for the best one there is, or 'cpu'"
        ) from error
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The type asked for; `"auto"` is bfloat16 where the device computes in it, else float32.

    Raises:
        InvalidInput: another name.
    """
    if dtype == "auto":
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in names:
        raise InvalidInput(f"dtype must be 'auto', {' or '.join(map(repr, names))}, not {dtype!r}")
    return names[dtype]


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return False
