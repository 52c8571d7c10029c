"""Representations of all processes for each of them, with gradients that go back to the process that made them."""

import os
from dataclasses import replace
from typing import Any

import torch
from torch import distributed

from m3core.train.scores import Embedded


def processes() -> tuple[int, int]:
    """Which process this is, and of how many that train together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def launched() -> int:
    """How many processes `torchrun` has started; they need not know each other yet."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def gathered(own: Embedded) -> Embedded:
    """The texts of all processes, those of the first one first. All of them must call it.

    A gradient with respect to what it gives is summed over the processes.
    """
    if processes()[1] == 1:
        return own
    lengths = torch.tensor(own.lengths, device=own.token_ids.device)
    made = {name: getattr(own, name) for name in ("dense", "weights", "rows")}
    tensors = {name: tensor for name, tensor in made.items() if tensor is not None}
    together = dict(zip(tensors, _together(*tensors.values()), strict=True))
    return replace(own, token_ids=_all(own.token_ids)[0], lengths=tuple(_all(lengths)[0].tolist()), **together)


def gathered_rows(own: torch.Tensor) -> torch.Tensor:
    """A tensor's rows of all processes, as `gathered`."""
    if processes()[1] == 1:
        return own
    return _together(own)[0]


def sum_gradients(model: torch.nn.Module) -> None:
    """Each parameter's gradient becomes the sum over all processes. All of them must have the same ones to train."""
    if processes()[1] == 1:
        return
    waiting = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            waiting.append(distributed.all_reduce(parameter.grad, async_op=True))
    for work in waiting:
        work.wait()


def _together(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    made: tuple[torch.Tensor, ...] = _Gather.apply(*tensors)  # type: ignore[no-untyped-call]
    return made


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gathered = [_all(tensor) for tensor in tensors]
        context.places = [place for _, place in gathered]
        return tuple(together for together, _ in gathered)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        own = []
        for gradient, place in zip(gradients, context.places, strict=True):
            total = gradient.contiguous()
            distributed.all_reduce(total)
            own.append(total[place])
        return tuple(own)


def _all(tensor: torch.Tensor) -> tuple[torch.Tensor, slice]:
    """The rows of all processes, and which of them are one's own. There may be different numbers of them."""
    rank, world = processes()
    size = torch.tensor([len(tensor)], device=tensor.device)
    sizes = [torch.zeros_like(size) for _ in range(world)]
    distributed.all_gather(sizes, size)
    rows = [int(size) for size in sizes]
    padded = tensor.new_zeros(max(rows), *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in range(world)]
    distributed.all_gather(parts, padded)
    start = sum(rows[:rank])
    return torch.cat([part[:n] for part, n in zip(parts, rows, strict=True)]), slice(start, start + len(tensor))
