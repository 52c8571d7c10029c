"""Gradients of a batch of any size in the memory of a part of it (GradCache, arXiv 2101.06983), over all modes.

A contrastive loss needs all of a batch at once, but only its representations. So these are made twice: without what
gradients need, for the loss and its gradients as to them; and part by part with it, to carry those on to the weights.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace

import torch

from m3core.packing import Pack
from m3core.train.losses import Losses
from m3core.train.scores import Embedded

_MADE = ("dense", "weights", "rows")


def joined(parts: Sequence[Embedded]) -> Embedded:
    """The representations of several packs as if of one."""

    def together(name: str) -> torch.Tensor | None:
        made = [getattr(part, name) for part in parts]
        return None if made[0] is None else torch.cat(made)

    lengths = tuple(length for part in parts for length in part.lengths)
    tensors = {field.name: together(field.name) for field in fields(Embedded) if field.name != "lengths"}
    token_ids = tensors.pop("token_ids")
    assert token_ids is not None
    return Embedded(token_ids, lengths, **tensors)


def backward(
    embed: Callable[[Pack], Embedded], packs: Sequence[Pack], loss: Callable[[Sequence[Embedded]], Losses]
) -> Losses:
    """Adds the gradients of a loss to the parameters that `embed` uses.

    Args:
        embed: makes the representations of a pack. It may draw random numbers, as dropout does: it draws the same ones
            the second time.
        packs: the parts of the batch. For a single one all is done once.
        loss: of the representations of all of them; its total is what goes down.

    Returns:
        The loss, without its graph.
    """
    if len(packs) == 1:
        losses = loss([embed(packs[0])])
        losses.total.backward()
        return _detached(losses)
    states, leaves = [], []
    for pack in packs:
        states.append(_random_state())
        with torch.no_grad():
            leaves.append(_leaf(embed(pack)))
    losses = loss(leaves)
    losses.total.backward()
    for pack, state, leaf in zip(packs, states, leaves, strict=True):
        with _drawing_from(state):
            made = embed(pack)
        pairs = [(getattr(made, name), getattr(leaf, name)) for name in _MADE if getattr(made, name) is not None]
        used = [(tensor, copy.grad) for tensor, copy in pairs if tensor.requires_grad and copy.grad is not None]
        torch.autograd.backward([tensor for tensor, _ in used], [gradient for _, gradient in used])
    return _detached(losses)


def _leaf(made: Embedded) -> Embedded:
    """The representations as what gradients are taken of."""
    tensors = {name: getattr(made, name) for name in _MADE}
    return replace(made, **{name: t.detach().requires_grad_() for name, t in tensors.items() if t is not None})


def _detached(losses: Losses) -> Losses:
    return Losses(losses.total.detach(), {name: part.detach() for name, part in losses.parts.items()})


def _random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


@contextmanager
def _drawing_from(state: tuple[torch.Tensor, list[torch.Tensor]]) -> Iterator[None]:
    """Random numbers as they were drawn from a state on; afterwards they go on as if nobody had drawn any."""
    now = _random_state()
    _set_random_state(state)
    try:
        yield
    finally:
        _set_random_state(now)


def _set_random_state(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
