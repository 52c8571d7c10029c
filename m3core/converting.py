"""Torch's weights as safetensors, which a start maps into memory instead of reading them."""

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from m3core.errors import InvalidModel
from m3core.hub import Located
from m3core.hub.cached import Repository

if TYPE_CHECKING:
    import torch

_TORCH, _SAFETENSORS = "pytorch_model.bin", "model.safetensors"


def add_safetensors(located: Located) -> Path | None:
    """Writes `model.safetensors` beside a model's `pytorch_model.bin`, where it has none.

    Args:
        located: the model.

    Returns:
        The new file; `None` if there was nothing to do.

    Raises:
        InvalidModel: the weights are in several files, damaged, or hold more than tensors.
    """
    directory = located.directory
    if list(directory.glob("model*.safetensors")):
        return None
    source, target = directory / _TORCH, directory / _SAFETENSORS
    if not source.is_file():
        raise InvalidModel(f"{directory} has no {_TORCH} that could be converted; weights in parts are not")
    import torch
    from safetensors import SafetensorError

    try:
        state = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("it holds more than named tensors")
        seen: set[int] = set()
        tensors = {}
        for name, value in state.items():  # safetensors keeps no two names of one memory
            shared = value.untyped_storage().data_ptr() in seen
            seen.add(value.untyped_storage().data_ptr())
            tensors[name] = value.clone() if shared else value.contiguous()
        save_whole(tensors, target, {"format": "pt"})
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise InvalidModel(f"{source} cannot be converted: {reason}") from error
    if located.revision is not None:
        Repository(located.name, directory.parents[2]).add(located.revision, _SAFETENSORS)
    return target


def save_whole(tensors: "dict[str, torch.Tensor]", target: Path, metadata: dict[str, str]) -> None:
    """Writes a safetensors file that is there whole or not at all, whoever else writes or reads it.

    Raises:
        OSError: it cannot be written.
        SafetensorError: likewise.
    """
    from safetensors.torch import save_file

    partial = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        save_file(tensors, partial, metadata)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
