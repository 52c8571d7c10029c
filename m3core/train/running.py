"""A run: from settings to Hugging Face's Trainer, and from what it made to a model on disk."""

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

from m3core.errors import InvalidInput, M3Warning
from m3core.packing import TokenBudget
from m3core.train import defaults
from m3core.train.batches import Batches
from m3core.train.card import write_card
from m3core.train.collating import Collator
from m3core.train.gathering import launched, processes
from m3core.train.measuring import Measures, Snapshot
from m3core.train.model import TrainableModel
from m3core.train.objective import Objective
from m3core.train.preparing import Prepared
from m3core.train.resuming import check_same_run, last_checkpoint
from m3core.train.saving import save_model, score_weights
from m3core.train.settings import Settings, trainer_arguments
from m3core.train.trainer import M3Trainer


@dataclass(frozen=True)
class FineTuned:
    """What a run made.

    Attributes:
        directory: the model.
        before: what the dev set said of the model before; empty without one.
        after: what it says of the model in `directory`.
        history: what was logged: dicts with `step`, and `loss` and its parts, or measures.
    """

    directory: Path
    before: Measures
    after: Measures
    history: list[dict[str, float]]


def train(prepared: Prepared, settings: Settings, output: Path, *, resume: bool, show_progress: bool) -> FineTuned:
    """See `FineTuner.run`."""
    model = prepared.model
    _check_widths(model, settings.matryoshka)
    batches = Batches(
        prepared.data.parts,
        settings.batch_size,
        negatives=prepared.negatives,
        batch_tokens=settings.batch_tokens,
        processes=launched(),
        seed=settings.seed,
    )
    if not len(batches):
        raise InvalidInput(f"{len(prepared.data)} records are too few for so many processes")
    steps = settings.arguments.get("max_steps") or math.ceil(len(batches) * settings.epochs)
    arguments = _arguments(prepared, settings, output, steps, show_progress)
    rank, world = processes()
    last = last_checkpoint(output / "checkpoints", resume)
    if rank == 0:
        check_same_run(output / "run.json", _stated(prepared, settings), first=last is None)
    collator = Collator(
        prepared.data,
        prepared.tokenizer,
        settings.max_length,
        prepared.negatives,
        prompt=prepared.prompt,
        seed=settings.seed,
        process=rank,
        processes=world,
    )
    if settings.gradient_checkpointing:
        model.checkpoint_gradients()
    budget = TokenBudget(settings.tokens_at_once or defaults.tokens_at_once(model))
    trainer = M3Trainer(
        model,
        arguments,
        batches=batches,
        collator=collator,
        objective=Objective(
            prepared.modes,
            settings.temperature or defaults.TEMPERATURES[len(prepared.modes) > 1],
            settings.self_distillation,
            settings.in_turn,
            settings.matryoshka,
        ),
        budget=budget,
        anchor=settings.anchor,
        optimizer=_optimizer(prepared, settings),
        measure=_measure(prepared, settings, budget),
        callbacks=_callbacks(prepared, settings),
    )
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    trainer.counts.warn(settings.max_length, prepared.checkpoint.languages, stacklevel=4)
    return _finish(trainer, prepared, settings, output / "model")


def _finish(trainer: M3Trainer, prepared: Prepared, settings: Settings, directory: Path) -> FineTuned:
    history = [dict(entry) for entry in trainer.state.log_history]
    before: Measures = {}
    after: Measures = {}
    if prepared.dev is not None:
        metric = f"eval_{prepared.dev.metric}"
        measured = [entry for entry in history if metric in entry]
        best = max(measured[1:] or measured, key=lambda entry: entry[metric])
        before, after = (
            {name.removeprefix("eval_"): value for name, value in entry.items() if name.startswith("eval_")}
            for entry in (measured[0], best)
        )
        if after[prepared.dev.metric] <= before[prepared.dev.metric]:
            warnings.warn(
                f"training did not improve {prepared.dev.metric} on the dev set: {before[prepared.dev.metric]:.3f} "
                f"before, {after[prepared.dev.metric]:.3f} after; try a lower learning rate, larger batches, more data",
                M3Warning,
                stacklevel=5,
            )
    tuned = FineTuned(directory, before, after, history)
    if trainer.is_world_process_zero():
        prepared.model.merge_adapters()
        save_model(prepared.model, prepared.checkpoint, directory, max_length=prepared.checkpoint.max_length)
        write_card(directory, prepared, asdict(settings), before, after)
    trainer.accelerator.wait_for_everyone()
    return tuned


def _arguments(
    prepared: Prepared, settings: Settings, output: Path, steps: int, show_progress: bool
) -> TrainingArguments:
    chosen: dict[str, Any] = {
        **trainer_arguments(
            output,
            prepared.model.device,
            steps,
            evaluations=settings.evaluations,
            show_progress=show_progress,
        ),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "warmup_steps": settings.warmup,
        "save_strategy": "steps",
        "logging_first_step": True,
        "lr_scheduler_type": "linear",
        "seed": settings.seed,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        **settings.arguments,
    }
    if prepared.dev is not None:
        chosen |= {
            "eval_strategy": "steps",
            "eval_on_start": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": prepared.dev.metric,
            "greater_is_better": True,
        }
    try:
        return TrainingArguments(**chosen)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"training arguments that cannot be used: {error}") from error


def _stated(prepared: Prepared, settings: Settings) -> dict[str, Any]:
    """What a run goes on with as it began."""
    return {name: value for name, value in asdict(settings).items() if name != "arguments"} | {
        "data": prepared.data.digest,
        "model": prepared.checkpoint.revision,
        "modes": prepared.modes,
        "negatives": prepared.negatives,
        "prompt": prepared.prompt,
        "trained": [name for name, parameter in prepared.model.named_parameters() if parameter.requires_grad],
        "processes": processes()[1],
    }


def _check_widths(model: TrainableModel, widths: tuple[int, ...]) -> None:
    most = min([model.dense_width, *([model.rows_width] if model.rows_width else [])])
    for width in widths:
        if not 1 <= width <= most:
            raise InvalidInput(f"matryoshka widths are from 1 to {most}, the narrower of dense and rows, not {width!r}")


def _optimizer(prepared: Prepared, settings: Settings) -> torch.optim.Optimizer:
    """AdamW; heads at a rate of their own, and no decay of biases and layer norms."""
    model = prepared.model
    rate = settings.learning_rate or defaults.learning_rate(model)
    heads = settings.head_learning_rate or defaults.head_rate(model, rate, new=prepared.new_heads)
    groups = [
        {
            "params": [
                parameter
                for name, parameter in model.named_parameters()
                if parameter.requires_grad and name.startswith("body.") == body and (parameter.ndim > 1) == decays
            ],
            "lr": rate if body else heads,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for body in (True, False)
        for decays in (True, False)
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]])


def _measure(
    prepared: Prepared, settings: Settings, budget: TokenBudget
) -> Callable[[TrainableModel], Measures] | None:
    if prepared.dev is None:
        return None
    snapshot = Snapshot(
        prepared.model,
        prepared.tokenizer,
        settings.max_length,
        budget,
        score_weights(prepared.model, prepared.checkpoint),
        prepared.prompt,
    )
    dev = prepared.dev
    return lambda model: {f"eval_{name}": value for name, value in dev(snapshot).items()}


def _callbacks(prepared: Prepared, settings: Settings) -> list[TrainerCallback]:
    if prepared.dev is None or settings.early_stopping is None:
        return []
    return [EarlyStoppingCallback(settings.early_stopping)]
