"""Hugging Face's Trainer for RetroMAE: batches of texts, both losses in its logs, checkpoints that are models."""

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from m3core.errors import TrainingFailed
from m3core.packing import TokenBudget
from m3core.train.caching import fitting
from m3core.train.gathering import processes, sum_gradients
from m3core.train.pretraining.masking import MaskedPack
from m3core.train.pretraining.model import RetroMaeModel
from m3core.train.pretraining.texts import TextBatches


class Pretrainer(Trainer):
    """Trains a `RetroMaeModel`, each batch in parts that fit into memory."""

    def __init__(
        self,
        model: RetroMaeModel,
        arguments: TrainingArguments,
        *,
        batches: TextBatches,
        budget: TokenBudget,
        dev: TextBatches | None,
    ) -> None:
        """Arguments of its parts; the budget halves when memory runs out."""
        super().__init__(model, arguments, eval_dataset=dev)  # asks for one, and leaves it to `evaluate`
        self._plain = model  # also where `model` is wrapped
        self._batches, self._budget, self._dev = batches, budget, dev
        self._parts: defaultdict[str, list[torch.Tensor]] = defaultdict(list)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The batches, this process's own: Accelerate need not divide them, nor place them on a device."""
        return _loader(self._batches)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Adds up the gradients of a batch over its parts, and over all processes.

        Returns:
            The loss, the mean over processes.

        Raises:
            OutOfMemory: not even a single text fits.
            TrainingFailed: the loss is not finite.
        """
        self._plain.train()
        parts = self._losses(inputs["masked"])
        sum_gradients(self._plain)
        world = processes()[1]
        total = torch.stack(list(parts.values())).sum() / world
        if world > 1:
            torch.distributed.all_reduce(total)
        if not torch.isfinite(total):
            raise TrainingFailed(
                f"the loss is {total.item()} after {self.state.global_step} steps: training diverged; lower the "
                "learning rate"
            )
        for name, part in parts.items():
            self._parts[f"{name}_loss"].append(part)
        return total

    def _losses(self, masked: MaskedPack) -> dict[str, torch.Tensor]:
        """Of encoder and decoder, means over a batch's tokens; makes this process's share of gradients, if any are."""
        return fitting(partial(self._in_parts, masked), self._budget, int(masked.pack.lengths.max()))

    def _in_parts(self, masked: MaskedPack, tokens: int) -> dict[str, torch.Tensor]:
        self._plain.zero_grad()  # of an attempt that memory was too small for
        whole, world = masked.guessed, processes()[1]
        parts = []
        for part in masked.parts(tokens):
            losses = self._plain(part).parts
            shares = {name: losses[name] * (guessed / whole[name]) for name, guessed in part.guessed.items()}
            if torch.is_grad_enabled():
                (torch.stack(list(shares.values())).sum() / world).backward()
            parts.append({name: share.detach() for name, share in shares.items()})
        return {name: torch.stack([part[name] for part in parts]).sum() for name in whole}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the means of both losses since the log before."""
        if "loss" in logs:
            logs |= {name: torch.stack(parts).mean().item() for name, parts in self._parts.items()}
            self._parts.clear()
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Both losses on held-out texts, means over tokens; their masks are the same each time."""
        assert self._dev is not None
        self._plain.eval()
        sums: defaultdict[str, float] = defaultdict(float)
        tokens: defaultdict[str, int] = defaultdict(int)
        with torch.no_grad():
            for inputs in _loader(self._dev):
                losses = self._losses(inputs["masked"])
                for name, guessed in inputs["masked"].guessed.items():
                    sums[name] += losses[name].item() * guessed
                    tokens[name] += guessed
        means = {f"eval_{name}_loss": sums[name] / tokens[name] for name in sums}
        metrics = {"eval_loss": sum(means.values()), **means}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        assert output_dir is not None
        if self.args.should_save:  # one process of several
            self._plain.save(Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        self._plain.load(Path(resume_from_checkpoint))


def _loader(batches: TextBatches) -> DataLoader[Any]:
    """Draws nothing of torch's generator, so that a resumed run's dropout is that of an unbroken one."""
    return DataLoader(batches, batch_size=None, generator=torch.Generator())
