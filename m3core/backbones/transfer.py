"""What goes up to a device, and what comes down from it.

On CUDA nobody waits for it: a copy from or to memory that is not pinned waits until the card has done all that was
asked of it before, and the card then waits for us.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import torch

from m3core.backbones.memory import out_of_memory_named


def upload(values: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array on a device; on a CPU, the same memory."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # torch keeps the pinned memory until it is copied


def download(tensors: Sequence[torch.Tensor]) -> Callable[[], list[npt.NDArray[Any]]]:
    """Starts to bring tensors of one device to this machine's memory.

    Returns:
        What waits until they are there, and gives them as arrays. It holds none of the device's memory.
    """
    if not tensors or not tensors[0].is_cuda:
        arrays = [tensor.cpu().numpy() for tensor in tensors]
        return lambda: arrays
    arriving = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True) for x in tensors]
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(tensors[0].device))

    def wait() -> list[npt.NDArray[Any]]:
        with out_of_memory_named():
            arrived.synchronize()
        return [tensor.numpy() for tensor in arriving]

    return wait
