"""`FineTuner`: a model, and data to train it with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from m3core.checkpoint import Checkpoint
from m3core.checks import checked_length
from m3core.errors import InvalidInput
from m3core.hub import locate
from m3core.output import Mode
from m3core.tokenizer import M3Tokenizer
from m3core.train.data import Sources
from m3core.train.preparing import DevSource, Freeze, Prepared, read_data, ready_model
from m3core.train.running import FineTuned, train
from m3core.train.settings import Settings

_LENGTH = 512  # tokens, unless somebody says otherwise
_TEACHER_LOSSES = ("kl_div", "m3_kd_loss")


class FineTuner:
    """Trains a model on data of one's own, by all representations that it has or shall have.

    Two lines, and what comes out is a model for `M3Encoder`, `M3Embeddings`, sentence-transformers and FlagEmbedding:

        tuner = FineTuner.from_pretrained("BAAI/bge-m3", dataset="train.jsonl")
        tuned = tuner.run(epochs=1)  # finetuned-model/model

    With several modes the loss is BGE-M3's: InfoNCE of each, of the ensemble, and self-knowledge distillation
    (arXiv 2402.03216, section 3.3); with dense alone it is InfoNCE. Scored pairs are trained by CoSENT, records with a
    teacher's scores by distillation. A query's negatives are its own hard ones and all other passages of the batch, in
    all processes, but for those that are known to answer it. Batches of any size fit into memory (GradCache).

    Under `torchrun` the processes train together: the same batches, each its share.

    Attributes:
        prepared: the model and the data.
    """

    def __init__(self, prepared: Prepared) -> None:
        """Takes what `from_pretrained` makes."""
        self.prepared = prepared

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        dataset: Sources,
        dev: DevSource = None,
        modes: Sequence[Mode] | None = None,
        multivector_dim: int | None = None,
        projection: bool = False,
        freeze: Freeze | Sequence[Freeze] | None = None,
        lora: Any = None,
        negatives: int = 7,
        prompt: str = "",
        device: str | None = None,
        dtype: str = "auto",
        attention: str = "auto",
        endpoint: str | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_folder: str | Path | None = None,
        local_files_only: bool = False,
        show_progress: bool = True,
        seed: int = 42,
    ) -> "FineTuner":
        """Reads the data to its end, and loads a model.

        Args:
            model: as of `M3Encoder`: a hub id, a directory, or `"m3-mini"`.
            dataset: a JSON-lines file, a folder in BEIR layout, a list of dicts, a data set of `datasets`; or several:
                a list of files, or a dict of names. A dict with `"train"` may have what `dev` is as well. For the
                columns see `m3core.train.records`.
            dev: what to measure with during training, as one data set of `dataset`, or a `JudgedSet`. `None` takes
                the data's own, or else holds out 5 % of the records, up to 500, if there are 400 or more; `False` takes
                none. Judged sets and queries with passages are measured by nDCG@10, scored pairs by Spearman's
                correlation.
            modes: what the loss is about; `None` is all that the model has. One that it does not have gets a new head,
                and heads of others go along as they are.
            multivector_dim: width of a new multi-vector head; `None` is 128, or the model's width where that is less.
            projection: whether to add a linear layer behind pooling.
            freeze: what stays as it is: `"backbone"`, the body; `"matrices"`, of the body all but biases and layer
                norms (BitFit, arXiv 2106.10199); `"dense"` (a projection), `"sparse"`, `"multivector"`, the heads; or
                several of these.
            lora: `True`, or a `peft.LoraConfig`: trains adapters in place of the body's weights, and merges them at
                the end.
            negatives: the most of a query's hard negatives that go into a batch, drawn anew in each epoch.
            prompt: goes before queries that have no prompt of their own.
            device: where to train; `None` takes the best there is.
            dtype: `"float32"`, `"bfloat16"` (autocast; weights stay float32), or `"auto"` as of `M3Encoder`.
            attention: as of `M3Encoder`.
            endpoint: as of `M3Encoder`.
            revision: as of `M3Encoder`.
            token: as of `M3Encoder`.
            cache_folder: as of `M3Encoder`.
            local_files_only: as of `M3Encoder`.
            show_progress: whether to show a progress bar while data is read.
            seed: of new heads, and of which records are held out.

        Raises:
            InvalidInput: an argument that cannot be used, or a bad record, named by file and line.
            MissingDependency: the extra `train` is not installed.
        """
        if isinstance(negatives, bool) or not isinstance(negatives, int) or negatives < 0:
            raise InvalidInput(f"negatives must be a whole number from 0, not {negatives!r}")
        data, measured, folder = read_data(dataset, dev, seed, show_progress)
        located = locate(
            str(model),
            revision=revision,
            endpoint=endpoint,
            token=token,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
        )
        checkpoint = Checkpoint.read(located.directory, name=located.name, revision=located.revision)
        tokenizer = M3Tokenizer.from_directory(checkpoint.path)
        torch.manual_seed(seed)
        loaded, wanted = ready_model(
            checkpoint,
            tokenizer,
            data,
            modes=modes,
            multivector_dim=multivector_dim,
            projection=projection,
            freeze=freeze,
            lora=lora,
            device=device,
            dtype=dtype,
            attention=attention,
        )
        new = projection or not set(loaded.modes) <= set(checkpoint.modes)
        return cls(Prepared(loaded, checkpoint, tokenizer, wanted, data, measured, negatives, prompt, new, folder))

    def run(
        self,
        *,
        epochs: float = 3,
        output: str | Path = "finetuned-model",
        batch_size: int = 64,
        batch_tokens: int | None = None,
        max_length: int | None = None,
        learning_rate: float | None = None,
        head_learning_rate: float | None = None,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        temperature: float | None = None,
        self_distillation: int | None = 0,
        teacher_loss: Literal["kl_div", "m3_kd_loss"] = "kl_div",
        matryoshka: Sequence[int] = (),
        anchor: float = 0.0,
        gradient_checkpointing: bool = False,
        tokens_at_once: int | None = None,
        evaluations: int = 10,
        early_stopping: int | None = 3,
        resume: bool = False,
        seed: int = 42,
        show_progress: bool = True,
        **arguments: Any,
    ) -> FineTuned:
        """Trains, and writes the best model to `output/model`.

        Args:
            epochs: how often each record is seen.
            output: a folder for the model, checkpoints to resume from, and logs (TensorBoard's, if it is installed).
            batch_size: records of a batch, in all processes together.
            batch_tokens: the most tokens of a batch, about, so that long records come in smaller batches.
            max_length: cut texts at so many tokens; `None` is 512, or the model's own limit where that is less.
            learning_rate: of the body; `None` is 5e-5 up to 80 M parameters, 3e-5 up to 200 M, 1e-5 above; ten times as
                much for adapters, biases and layer norms.
            head_learning_rate: of heads and projection; `None` is 1e-3 if they are new or trained alone, else as above.
            weight_decay: AdamW's, of matrices.
            warmup: the share of steps in which the learning rate rises; then it falls in a straight line to 0.
            temperature: what scores are divided by; `None` is 0.02 with several modes, 0.05 with dense alone.
            self_distillation: from which optimizer step on each mode learns from the ensemble; `None` is never.
            teacher_loss: how to learn from `pos_scores` and `neg_scores`, by FlagEmbedding's names.
            matryoshka: widths that dense vectors and multi-vectors are to be useful at when they are cut.
            anchor: pulls what is trained back to what it was: so many times the sum of squared differences is added to
                the loss (L2-SP, arXiv 1802.01483). For data that is narrower than what the model is for.
            gradient_checkpointing: half the memory or less, for a third more time.
            tokens_at_once: how many tokens go through the model at once; `None` is what should fit into memory. Halves
                by itself when it does not.
            evaluations: how often to measure and save during the run.
            early_stopping: stop after so many measures without a better one; `None` is never.
            resume: go on with the run that an earlier call with the same arguments left in `output`, if it did.
            seed: of everything that is drawn.
            show_progress: whether to show a progress bar.
            **arguments: more of Hugging Face's `TrainingArguments`, such as `report_to` or `lr_scheduler_type`.

        Raises:
            InvalidInput: an argument that cannot be used; or `output` has checkpoints, and `resume` is not asked for.
            OutOfMemory: not even a single text fits.
            TrainingFailed: training diverged, or the run to resume had other data or arguments.
        """
        if teacher_loss not in _TEACHER_LOSSES:
            raise InvalidInput(f"teacher_loss must be {' or '.join(map(repr, _TEACHER_LOSSES))}, not {teacher_loss!r}")
        limit = self.prepared.checkpoint.max_length
        settings = Settings(
            epochs=epochs,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            max_length=checked_length(max_length or min(_LENGTH, limit), limit),
            learning_rate=learning_rate,
            head_learning_rate=head_learning_rate,
            weight_decay=weight_decay,
            warmup=warmup,
            temperature=temperature,
            self_distillation=self_distillation,
            in_turn=teacher_loss == "m3_kd_loss",
            matryoshka=tuple(matryoshka),
            anchor=anchor,
            gradient_checkpointing=gradient_checkpointing,
            tokens_at_once=tokens_at_once,
            evaluations=evaluations,
            early_stopping=early_stopping,
            seed=seed,
            arguments=arguments,
        )
        return train(self.prepared, settings, Path(output), resume=resume, show_progress=show_progress)
