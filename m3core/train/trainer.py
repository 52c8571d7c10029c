"""`M3Trainer`: Hugging Face's Trainer with batches, losses and measures of ours."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from m3core.errors import TrainingFailed
from m3core.packing import TokenBudget
from m3core.tokenizer import TextCounts
from m3core.train.batches import Batches, Place
from m3core.train.caching import backward
from m3core.train.collating import Batch, Collator
from m3core.train.gathering import processes, sum_gradients
from m3core.train.losses import Losses
from m3core.train.model import TrainableModel
from m3core.train.objective import Objective
from m3core.train.scores import Embedded

Measure = Callable[[TrainableModel], dict[str, float]]
"""Measures a model on a dev set; names begin with `eval_`."""


class M3Trainer(Trainer):
    """Trains a `TrainableModel` by an `Objective`, each batch in parts that fit into memory.

    Attributes:
        budget: how many tokens go through the model at once; halves when memory runs out.
        counts: what became of the texts of this process.
    """

    def __init__(
        self,
        model: TrainableModel,
        arguments: TrainingArguments,
        *,
        batches: Batches,
        collator: Collator,
        objective: Objective,
        budget: TokenBudget,
        anchor: float,
        optimizer: torch.optim.Optimizer,
        measure: Measure | None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """Arguments of its parts; `measure` is what evaluation does, `None` if there is none."""
        super().__init__(
            model, arguments, eval_dataset=_Places(1), optimizers=(optimizer, None), callbacks=list(callbacks)
        )
        self.remove_callback(PrinterCallback)  # which comes where progress bars are not wanted
        self.budget = budget
        self.counts = TextCounts()
        self._trained = model  # also where `model` is wrapped
        self._batches, self._collator, self._objective, self._measure = batches, collator, objective, measure
        self._anchor = anchor
        self._began = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad and anchor]
        self._parts: defaultdict[str, list[torch.Tensor]] = defaultdict(list)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The batches, this process's share of each. Accelerate need not divide them, nor place them on a device."""
        collator = self._collator
        places = _Places(len(collator.data))
        return _Loader(places, batch_sampler=self._batches, collate_fn=lambda own: {"batch": collator(own)})

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Adds up the gradients of a batch over its parts and over all processes.

        Returns:
            The loss, the mean over processes.

        Raises:
            OutOfMemory: not even a single text fits.
            TrainingFailed: the loss is not finite.
        """
        batch: Batch = inputs["batch"]
        self.counts += batch.counts
        self._trained.train()
        world = processes()[1]

        def loss(queries: Embedded, passages: Embedded) -> Losses:
            losses = self._objective.losses(queries, passages, batch, self.state.global_step)
            return Losses(losses.total / world, losses.parts)

        groups = (batch.queries, batch.passages)
        losses = backward(self._trained, groups, loss, self.budget, at_once=self._trained.frozen_body)
        sum_gradients(self._trained)
        pulled = self._pull()
        total = losses.total
        if world > 1:
            torch.distributed.all_reduce(total)
        total += pulled
        if not torch.isfinite(total):
            raise TrainingFailed(
                f"the loss is {total.item()} after {self.state.global_step} steps: training diverged; lower the "
                "learning rate, or raise the temperature"
            )
        for name, part in losses.parts.items():
            self._parts[name].append(part)
        return total

    @torch.no_grad()
    def _pull(self) -> torch.Tensor:
        """Adds the gradients of the anchor's loss, and gives the loss."""
        total = torch.zeros((), device=self._trained.device)
        for parameter, first in self._began:
            away = parameter - first
            total += self._anchor * away.square().sum()
            if parameter.grad is not None:
                parameter.grad.add_(away, alpha=2 * self._anchor)
        return total

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measures the model, and logs what comes out."""
        assert self._measure is not None
        metrics = self._measure(self._trained)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the loss by each mode since the last time, where the loss is logged."""
        if "loss" in logs:
            means = {f"loss_{name}": torch.stack(parts).mean().item() for name, parts in self._parts.items()}
            logs = {**logs, **(means if len(means) > 1 else {})}
            self._parts.clear()
        super().log(logs, start_time)


class _Places(Dataset[Place]):
    """What batches are of: places, which stand for themselves."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: Place) -> Place:
        return place


class _Loader(DataLoader[Place]):
    """Tells the batches which epoch comes; the Trainer asks for it."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer."""
        assert isinstance(self.batch_sampler, Batches)
        self.batch_sampler.set_epoch(epoch)
