"""`RetroMAE`: pre-trains an encoder on plain texts."""

import json
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from m3core.checkpoint import Checkpoint
from m3core.checks import checked_length
from m3core.errors import InvalidInput, InvalidModel
from m3core.hub import locate
from m3core.packing import TokenBudget
from m3core.parts import Pooling
from m3core.tokenizer import M3Tokenizer
from m3core.train import defaults
from m3core.train.card import write_pretraining_card
from m3core.train.gathering import launched
from m3core.train.measuring import Measures
from m3core.train.preparing import choose_place
from m3core.train.pretraining.masking import DECODER_MASKED, ENCODER_MASKED, Masker
from m3core.train.pretraining.model import RetroMaeModel
from m3core.train.pretraining.texts import TextBatches, Texts, described, stream
from m3core.train.resuming import check_same_run, last_checkpoint
from m3core.train.settings import trainer_arguments

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Pretrained:
    """What a run made.

    Attributes:
        directory: the model, for `M3Encoder`, `FineTuner`, or more pre-training.
        history: what was logged: dicts with `step`, and `loss`, `encoder_loss` and `decoder_loss`, or the same of
            held-out texts behind `eval_`.
    """

    directory: Path
    history: list[dict[str, float]]

    def held_out(self) -> tuple[Measures, Measures]:
        """The losses on held-out texts, before and after; empty if there are none."""
        measured = [
            {name.removeprefix("eval_"): loss for name, loss in entry.items() if name.startswith("eval_")}
            for entry in self.history
            if "eval_loss" in entry
        ]
        return (measured[0], measured[-1]) if measured else ({}, {})


class RetroMAE:
    """Pre-trains an encoder on plain texts (arXiv 2205.12035), as BGE-M3 was before it was trained to retrieve.

        retromae = RetroMAE.from_pretrained("FacebookAI/xlm-roberta-base", dataset="texts.jsonl")
        pretrained = retromae.run(epochs=1, max_length=8192)  # pretrained-model/model
        FineTuner.from_pretrained(pretrained.directory, dataset="train.jsonl").run()

    Under `torchrun` the processes train together, each with its share of the texts.

    Attributes:
        checkpoint: the model.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        texts: "datasets.IterableDataset",
        dev: "datasets.IterableDataset | None",
        *,
        source: str,
        device: torch.device,
        dtype: torch.dtype,
        attention: str,
    ) -> None:
        """Takes what `from_pretrained` finds."""
        self.checkpoint = checkpoint
        self._texts, self._dev, self._source = texts, dev, source
        self._device, self._dtype, self._attention = device, dtype, attention
        self._tokenizer = M3Tokenizer.from_directory(checkpoint.path)
        if self._tokenizer.mask_id is None:
            raise InvalidModel(f"the tokenizer of {checkpoint.name} has no mask token, <mask> or [MASK]; add one")

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        dataset: Texts,
        dev: Texts | None = None,
        pooling: Pooling = "cls",
        device: str | None = None,
        dtype: str = "auto",
        attention: str = "auto",
        endpoint: str | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_folder: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Finds a model and texts. Weights and texts are read when training starts.

        Args:
            model: a hub id or a directory: of an embedding model, of a masked language model such as XLM-R, of one with
                random weights, or what a run before has written. Head and decoder are taken from it if it has them.
            dataset: a JSON-lines file with a `text` a line, a text file with a text a line, a folder of such, or a list
                of them; a list of texts or of dicts with a `text`; a data set of `datasets`, which may be streamed.
            dev: held-out texts to measure both losses with, as `dataset`.
            pooling: of a model that does not say; one that does keeps its own.
            device: where to train; `None` takes the best there is.
            dtype: as of `FineTuner`.
            attention: as of `M3Encoder`.
            endpoint: as of `M3Encoder`.
            revision: as of `M3Encoder`.
            token: as of `M3Encoder`.
            cache_folder: as of `M3Encoder`.
            local_files_only: as of `M3Encoder`.

        Raises:
            InvalidInput: an argument that cannot be used, or no such file.
            InvalidModel: as `Checkpoint.read`; or the tokenizer has no mask token.
            MissingDependency: the extra `train` is not installed.
        """
        texts, held_out = stream(dataset), None if dev is None else stream(dev)
        place, kind = choose_place(device, dtype)
        located = locate(
            str(model),
            revision=revision,
            endpoint=endpoint,
            token=token,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
        )
        checkpoint = Checkpoint.read(
            located.directory, name=located.name, revision=located.revision, default_pooling=pooling
        )
        return cls(
            checkpoint, texts, held_out, source=described(dataset), device=place, dtype=kind, attention=attention
        )

    def run(
        self,
        *,
        epochs: float = 1,
        steps: int | None = None,
        output: str | Path = "pretrained-model",
        max_length: int | None = None,
        batch_tokens: int = 8192,
        tokens_at_once: int | None = None,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        encoder_masked: float = ENCODER_MASKED,
        decoder_masked: float = DECODER_MASKED,
        gradient_checkpointing: bool = False,
        evaluations: int = 10,
        resume: bool = False,
        seed: int = 42,
        show_progress: bool = True,
        **arguments: Any,
    ) -> Pretrained:
        """Trains, and writes the last state to `output/model`.

        Args:
            epochs: how often each text is seen. To know the number of steps, texts are read once beforehand.
            steps: how many optimizer steps, in place of `epochs`; then nothing is read beforehand.
            output: a folder for the model, checkpoints to resume from, and logs (TensorBoard's, if it is installed).
            max_length: of texts in tokens; longer ones are cut into several. If it is more than the model's own, the
                model's becomes this, and its table of positions is extended if need be; see `extend_positions`.
            batch_tokens: how many make a step, on each device.
            tokens_at_once: how many of them go through the model at once; `None` chooses by model and memory. Where
                memory runs out it is halved, and the run goes on.
            learning_rate: at its highest. BGE-M3's is 7e-5.
            weight_decay: AdamW's.
            warmup: the share of steps in which the learning rate rises; then it falls in a straight line to 0.
            encoder_masked: the probability that the encoder does not see a word.
            decoder_masked: the probability that a row of the decoder does not.
            gradient_checkpointing: less memory, for a third more time.
            evaluations: how often to measure and save during the run.
            resume: go on with the run that an earlier call with the same arguments left in `output`, if it did. The
                texts before that are read again, and not masked.
            seed: of everything that is drawn.
            show_progress: whether to show a progress bar.
            **arguments: more of Hugging Face's `TrainingArguments`, such as `report_to` or `logging_steps`.

        Raises:
            InvalidInput: an argument that cannot be used; `output` has checkpoints, and `resume` is not asked for; or a
                text that is none, named by file and line.
            InvalidModel: as `load_body`.
            OutOfMemory: not even a single text fits.
            TrainingFailed: training diverged, or the run to resume had other arguments.
        """
        import transformers

        from m3core.train.pretraining.trainer import Pretrainer

        for name, value in (
            ("steps", 1 if steps is None else steps),
            ("batch_tokens", batch_tokens),
            ("tokens_at_once", 1 if tokens_at_once is None else tokens_at_once),
            ("evaluations", evaluations),
        ):
            if value < 1:
                raise InvalidInput(f"{name} must be 1 or more, not {value!r}")
        output = Path(output)
        last = last_checkpoint(output / "checkpoints", resume)
        checkpoint = self.checkpoint
        if max_length is not None and max_length > checkpoint.max_length:
            checkpoint = replace(checkpoint, max_length=max_length)
        length = checked_length(max_length, checkpoint.max_length)
        cut = partial(
            TextBatches,
            tokenizer=self._tokenizer,
            masker=self._masker(encoder_masked, decoder_masked),
            max_length=length,
            tokens=batch_tokens,
            seed=seed,
        )
        if steps is None:
            steps = max(1, math.ceil(cut(self._texts).count() * epochs / launched()))
        settings: dict[str, Any] = {
            **trainer_arguments(output, self._device, steps, evaluations=evaluations, show_progress=show_progress),
            "max_steps": steps,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "warmup_steps": warmup,
            "seed": seed,
            "eval_strategy": "no" if self._dev is None else "steps",
            "eval_on_start": self._dev is not None,
            "ignore_data_skip": True,  # our batches skip by themselves, which is faster
        }
        chosen = transformers.TrainingArguments(**settings | arguments)
        stated = {
            "texts": self._source,
            "steps": steps,
            "max_length": length,
            "batch_tokens": batch_tokens,
            "tokens_at_once": tokens_at_once,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "warmup": warmup,
            "encoder_masked": encoder_masked,
            "decoder_masked": decoder_masked,
            "seed": seed,
            "processes": chosen.world_size,
        }
        if chosen.process_index == 0:
            check_same_run(output / "run.json", {"model": checkpoint.revision, **stated}, first=last is None)
        torch.manual_seed(seed)
        model = RetroMaeModel(
            checkpoint, self._tokenizer.special_ids, self._device, attention=self._attention, dtype=self._dtype
        )
        if gradient_checkpointing:
            model.encoder.checkpoint_gradients()
        done = _steps_done(last)
        batches = cut(
            self._texts,
            skipped=done,
            process=chosen.process_index,
            processes=chosen.world_size,
        )
        dev = None if self._dev is None else cut(self._dev, once=True)
        budget = TokenBudget(tokens_at_once or defaults.tokens_at_once(model.encoder))
        trainer = Pretrainer(model, chosen, batches=batches, budget=budget, dev=dev)
        if not show_progress:
            trainer.remove_callback(transformers.PrinterCallback)
        if last is None or done < steps:
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
        else:  # the Trainer would make one more step
            model.load(last)
            trainer.state = transformers.TrainerState.load_from_json(str(last / "trainer_state.json"))
        trainer.save_model(str(output / "model"))
        pretrained = Pretrained(output / "model", trainer.state.log_history)
        if trainer.is_world_process_zero():
            write_pretraining_card(pretrained.directory, checkpoint, stated, *pretrained.held_out())
        trainer.accelerator.wait_for_everyone()
        return pretrained

    def _masker(self, encoder: float, decoder: float) -> Masker:
        if not (0 < encoder < 1 and 0 < decoder < 1):
            raise InvalidInput(f"masking probabilities lie between 0 and 1, not {encoder} and {decoder}")
        tokenizer = self._tokenizer
        assert tokenizer.mask_id is not None
        ordinary = np.setdiff1d(np.arange(tokenizer.size), [*tokenizer.special_ids, tokenizer.mask_id])
        return Masker(tokenizer.special_ids, tokenizer.mask_id, ordinary, encoder, decoder)


def _steps_done(checkpoint: Path | None) -> int:
    if checkpoint is None:
        return 0
    return int(json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))["global_step"])
