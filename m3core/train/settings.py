"""How to train: what a run is asked for, checked."""

import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from m3core.errors import InvalidInput

_LOGS = 100  # of a run, about

_OURS = (
    *("output_dir", "num_train_epochs", "learning_rate", "weight_decay", "warmup_steps", "seed", "eval_steps"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "auto_find_batch_size"),
    *("fsdp", "deepspeed", "bf16", "fp16", "use_cpu", "eval_strategy", "save_strategy", "save_steps"),
    *("remove_unused_columns", "dataloader_pin_memory", "logging_nan_inf_filter"),
)


@dataclass(frozen=True)
class Settings:
    """How to train: `FineTuner.run`'s arguments, checked."""

    epochs: float
    batch_size: int
    batch_tokens: int | None
    max_length: int
    learning_rate: float | None
    head_learning_rate: float | None
    weight_decay: float
    warmup: float
    temperature: float | None
    self_distillation: int | None
    in_turn: bool
    matryoshka: tuple[int, ...]
    anchor: float
    gradient_checkpointing: bool
    tokens_at_once: int | None
    evaluations: int
    early_stopping: int | None
    seed: int
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises `InvalidInput` for what cannot be."""
        least: dict[str, float | None] = {
            "batch_size": 1,
            "batch_tokens": 1,
            "tokens_at_once": 1,
            "evaluations": 1,
            "early_stopping": 1,
            "self_distillation": 0,
            "weight_decay": 0,
            "anchor": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not math.isfinite(value) or value < low):
                raise InvalidInput(f"{name} must be {low} or more, not {value!r}")
        for name in ("epochs", "learning_rate", "head_learning_rate", "temperature"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidInput(f"{name} must be more than 0, not {value!r}")
        if not 0 <= self.warmup < 1:
            raise InvalidInput(f"warmup is a share of the steps, from 0 to less than 1, not {self.warmup!r}")
        if taken := sorted(set(self.arguments) & set(_OURS)):
            raise InvalidInput(f"{taken[0]} is set by the arguments of run(), not as one of TrainingArguments")


def trainer_arguments(
    output: Path, device: torch.device, steps: int, *, evaluations: int, show_progress: bool
) -> dict[str, Any]:
    """What every run asks of Hugging Face's `TrainingArguments`.

    Args:
        output: of the run; checkpoints go into a folder of it.
        device: where it trains.
        steps: how many there will be.
        evaluations: how often to measure and save, if the run measures.
        show_progress: whether to show progress bars.
    """
    often = math.ceil(steps / evaluations)
    return {
        "output_dir": str(output / "checkpoints"),
        "report_to": ["tensorboard"] if find_spec("tensorboard") else [],
        "save_steps": often,
        "eval_steps": often,
        "logging_steps": math.ceil(steps / _LOGS),
        "save_total_limit": 1,
        "disable_tqdm": not show_progress,
        "use_cpu": device.type == "cpu",
        "logging_nan_inf_filter": False,
    }
