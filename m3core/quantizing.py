"""int8 weights of a checkpoint, kept in a file beside it, so that only the first start has to make them."""

import logging
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from m3core.checkpoint import Checkpoint
from m3core.converting import save_whole
from m3core.weights import State, fused, load_state

FILE = "int8.safetensors"
_FORMAT = "2"  # of the file's contents
_READ = ("_embeddings.weight", "LayerNorm.weight", "LayerNorm.bias", "qkv.weight", "intermediate.dense.weight")
_WRITTEN = ("output.dense.weight", "output.dense.scale", "output.dense.bias")
_LOG = logging.getLogger("m3core")


def int8_state(checkpoint: Checkpoint) -> State:
    """The weights with int8 matrices, as `quantized` makes them, from the file beside the checkpoint if there is one.

    Otherwise it is written, if that can be done; not for weights that are stored quantized, which are few.

    Raises:
        InvalidModel: as `load_state`.
    """
    if checkpoint.quantization is not None:
        return quantized(fused(load_state(checkpoint)))
    path = checkpoint.path / FILE
    made_of = {"format": _FORMAT, "revision": checkpoint.revision}
    state = _read(path, made_of)
    if state is None:
        state = quantized(fused(load_state(checkpoint)))
        _write(path, state, made_of)
    return state


def quantized(state: State) -> State:
    """Weights with the matrices of linear layers in int8, and embeddings in float16.

    Hidden channels are put in order of the mean square that layer normalization gives them, `weight² + bias²` summed
    over all of them, so that the few large ones of a trained model are neighbours: activations are quantized in groups
    of neighbours, each as finely as its largest allows.

    Args:
        state: weights in float32 by name, with queries, keys and values in one.

    Returns:
        For each `X.weight` of a linear layer, `(n, k)` int8 in -127 … 127, also `X.scale`, `(n, 1)` float32, with which
        to multiply: the largest of the row is 127 times the scale. And `channels`, `(hidden,)` int64: where each
        channel of the hidden states now is.
    """
    order = _by_size(state)
    made: State = {"channels": torch.argsort(order)}
    for name, weights in state.items():
        stem, _, kind = name.rpartition(".")
        if kind != "weight" or weights.ndim != 2:
            made[name] = weights
        elif stem.startswith("embeddings."):
            made[name] = weights.half()
        else:
            scale = weights.abs().amax(1, keepdim=True) / 127
            made[f"{stem}.scale"] = scale
            made[name] = torch.round(weights / torch.where(scale > 0, scale, 1)).to(torch.int8)
    for name, weights in made.items():
        if name.endswith(_READ):
            made[name] = weights.index_select(-1, order)
        elif name.endswith(_WRITTEN):
            made[name] = weights.index_select(0, order)
    return made


def _by_size(state: State) -> torch.Tensor:
    """The hidden channels, `(hidden,)` int64, the largest last."""
    norms = [name.removesuffix(".weight") for name in state if name.endswith("LayerNorm.weight")]
    squares = [state[f"{norm}.weight"].square() + state[f"{norm}.bias"].square() for norm in norms]
    return torch.stack(squares).sum(0).argsort(stable=True)


def _read(path: Path, made_of: dict[str, str]) -> State | None:
    """What the file holds, mapped into memory; `None` if there is none of this model, or it is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if file.metadata() == made_of:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        _LOG.warning("%s is damaged (%s), and is made again", path, error)
    return None


def _write(path: Path, state: State, made_of: dict[str, str]) -> None:
    try:
        save_whole({name: weights.contiguous() for name, weights in state.items()}, path, made_of)
    except (SafetensorError, OSError) as error:
        _LOG.info("%s cannot be written (%s); the next start makes the weights again", path, error)
