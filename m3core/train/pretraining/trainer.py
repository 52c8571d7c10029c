"""Hugging Face's Trainer for RetroMAE: batches of texts, both losses in its logs, checkpoints that are models."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from m3core.errors import TrainingFailed
from m3core.train.losses import Losses
from m3core.train.pretraining.model import RetroMaeModel
from m3core.train.pretraining.texts import TextBatches


class Pretrainer(Trainer):
    """Trains a `RetroMaeModel`."""

    def __init__(
        self,
        model: RetroMaeModel,
        arguments: TrainingArguments,
        *,
        batches: TextBatches,
        dev: TextBatches | None,
    ) -> None:
        """Arguments of its parts."""
        super().__init__(model, arguments, eval_dataset=dev)  # asks for one, and leaves it to `evaluate`
        self._plain = model  # also where `model` is wrapped
        self._batches, self._dev = batches, dev
        self._parts: defaultdict[str, list[torch.Tensor]] = defaultdict(list)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The batches, this process's own: Accelerate need not divide them, nor place them on a device."""
        return _loader(self._batches)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch; its parts are kept for the next log.

        Raises:
            TrainingFailed: it is not finite.
        """
        losses: Losses = model(**inputs)
        if not torch.isfinite(losses.total):
            raise TrainingFailed(
                f"the loss is {losses.total.item()} after {self.state.global_step} steps: training diverged; lower the "
                "learning rate"
            )
        for name, part in losses.parts.items():
            self._parts[f"{name}_loss"].append(part.detach())
        return losses.total

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
                masked = inputs["masked"]
                parts = self._plain(masked).parts
                for name, guessed in (("encoder", masked.masked), ("decoder", masked.labels)):
                    sums[name] += parts[name].item() * int(guessed.sum())
                    tokens[name] += int(guessed.sum())
        losses = {f"eval_{name}_loss": sums[name] / tokens[name] for name in sums}
        metrics = {"eval_loss": sum(losses.values()), **losses}
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
