"""Gradients of a batch of any size in the memory of a part of it (GradCache, arXiv 2101.06983), over all modes.

A contrastive loss needs all of a batch at once, but only its representations. So these are made twice: without what
gradients need, for the loss and its gradients as to them; and part by part with it, to carry those on to the weights.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TypeVar

import torch

from m3core.backbones.memory import out_of_memory_named
from m3core.errors import OutOfMemory
from m3core.packing import IntArray, Pack, TokenBudget
from m3core.train.losses import Losses
from m3core.train.scores import Embedded

_MADE = ("dense", "weights", "rows")


def packs_of(texts: Sequence[IntArray], tokens: int) -> list[Pack]:
    """Packs of neighbours, of so many tokens at most or of a single text."""
    packs: list[list[IntArray]] = []
    room = 0
    for text in texts:
        room -= len(text)
        if room < 0 or not packs:
            packs.append([])
            room = tokens - len(text)
        packs[-1].append(text)
    return [Pack.of(pack) for pack in packs]


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
    model: torch.nn.Module,
    groups: Sequence[Sequence[IntArray]],
    loss: Callable[..., Losses],
    budget: TokenBudget,
    *,
    at_once: bool = False,
) -> Losses:
    """Makes a loss's gradients as to a model's parameters, which must not have any yet.

    Where memory runs out the budget is halved. If it does so while gradients are carried on, and the model drops units
    at random, those of this step are not exactly the loss's: it then drops others than before.

    Args:
        model: makes the `Embedded` of a `Pack`. It may draw random numbers, as dropout does: it draws the same ones the
            second time.
        groups: the token ids of texts, such as queries and passages.
        loss: of an `Embedded` of each group; its total is what goes down. It is asked once.
        budget: how many tokens go through the model at once. A batch that is no larger goes through it once.
        at_once: let each pack go through the model once, and keep what gradients need.

    Returns:
        The loss, without its graph.

    Raises:
        OutOfMemory: a single text does not fit.
    """
    kept = at_once or sum(len(text) for texts in groups for text in texts) <= budget.tokens
    made = [fitting(partial(_Made.of, model, texts, kept), budget, max(map(len, texts), default=0)) for texts in groups]
    leaves = [_leaf(own.whole) for own in made]
    losses = loss(*leaves)
    losses.total.backward()

    def carry() -> None:
        model.zero_grad()  # of an attempt that memory was too small for
        for own, leaf, texts in zip(made, leaves, groups, strict=True):
            own.carry(model, leaf, texts, budget.tokens)

    fitting(lambda tokens: carry(), budget, max((len(text) for texts in groups for text in texts), default=0))
    return Losses(losses.total.detach(), {name: part.detach() for name, part in losses.parts.items()})


Result = TypeVar("Result")


def fitting(work: Callable[[int], Result], budget: TokenBudget, longest: int) -> Result:
    """What work gives when it is done with so many tokens at once as there is memory for.

    Args:
        work: takes how many, and is called again with half of them where memory runs out.
        budget: how many; halved with it.
        longest: tokens of the longest text; it can't be halved.

    Raises:
        OutOfMemory: that text does not fit.
    """
    while True:
        try:
            with out_of_memory_named():
                return work(budget.tokens)
        except OutOfMemory as error:
            if budget.tokens < longest:
                raise OutOfMemory(
                    f"training with a text of {longest} tokens does not fit into memory ({error}): lower max_length, "
                    "or train with gradient_checkpointing=True, or fine-tune with lora=True"
                ) from error
            budget.tokens //= 2


@dataclass(eq=False)
class _Made:
    """The representations of a group of texts, and how to make them again.

    Attributes:
        whole: with the graph that made it, or without.
        kept: whether there still is that graph.
        states: the generators' state before each pack.
        tokens: the packs' budget.
    """

    whole: Embedded
    kept: bool
    states: "list[_RandomState]"
    tokens: int

    @classmethod
    def of(cls, model: torch.nn.Module, texts: Sequence[IntArray], kept: bool, tokens: int) -> "_Made":
        """Makes them."""
        parts, states = [], []
        with torch.set_grad_enabled(kept):
            for pack in packs_of(texts, tokens):
                states.append(_random_state())
                parts.append(model(pack))
        return cls(joined(parts), kept, states, tokens)

    def carry(self, model: torch.nn.Module, leaf: Embedded, texts: Sequence[IntArray], tokens: int) -> None:
        """Carries the gradients of the leaf on to the weights."""
        if self.kept:
            self.kept = False  # the graph goes with its use
            whole, self.whole = self.whole, leaf
            _carry(whole, leaf, slice(None), slice(None), slice(None))
            return
        replayed = self.states if tokens == self.tokens else None
        text = token = 0
        for i, pack in enumerate(packs_of(texts, tokens)):
            with _drawing_from(replayed[i]) if replayed else nullcontext():
                made = model(pack)
            next_text, next_token = text + len(pack.lengths), token + len(pack.token_ids)
            rows = slice(token - text, next_token - next_text)
            _carry(made, leaf, slice(text, next_text), slice(token, next_token), rows)
            text, token = next_text, next_token


def _carry(made: Embedded, leaf: Embedded, texts: slice, tokens: slice, rows: slice) -> None:
    """Carries a leaf's gradients, of those of its texts that were made here, on to what made them."""
    tensors, gradients = [], []
    for name, place in zip(_MADE, (texts, tokens, rows), strict=True):
        tensor, copy = getattr(made, name), getattr(leaf, name)
        if tensor is not None and tensor.requires_grad and copy.grad is not None:
            tensors.append(tensor)
            gradients.append(copy.grad[place])
    torch.autograd.backward(tensors, gradients)


def _leaf(made: Embedded) -> Embedded:
    """The representations as what gradients are taken of."""
    tensors = {name: getattr(made, name) for name in _MADE}
    return replace(made, **{name: t.detach().requires_grad_() for name, t in tensors.items() if t is not None})


_RandomState = tuple[torch.Tensor, list[torch.Tensor]]


def _random_state() -> _RandomState:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


@contextmanager
def _drawing_from(state: _RandomState) -> Iterator[None]:
    """Random numbers as they were drawn from a state on; afterwards they go on as if nobody had drawn any."""
    now = _random_state()
    _set_random_state(state)
    try:
        yield
    finally:
        _set_random_state(now)


def _set_random_state(state: _RandomState) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
