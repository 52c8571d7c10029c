"""A model made ready to train, and its data read: what is wrong with either shows before the first step."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
import torch

from m3core.backbones.engines import best_float, choose_device
from m3core.checkpoint import Checkpoint
from m3core.errors import InvalidInput, MissingDependency
from m3core.evaluation.beir import JudgedSet, load_beir
from m3core.output import MODES, Mode
from m3core.packing import IntArray
from m3core.tokenizer import M3Tokenizer
from m3core.train.data import Part, Sources, TrainingData, named
from m3core.train.measuring import Dev, JudgedDev, dev_of
from m3core.train.model import TrainableModel
from m3core.train.records import Source, read_examples

Freeze = Literal["backbone", "matrices", "dense", "sparse", "multivector"]
DevSource = Source | JudgedSet | Literal[False] | None

_MULTIVECTOR = 128
_HELD_OUT, _MOST_HELD_OUT, _ENOUGH = 0.05, 500, 400
_SAMPLE, _SAMPLE_LENGTH, _SAMPLE_TOKENS = 300, 256, 2048  # records for a new head to look at
_ADAPTED = ["query", "key", "value", "dense"]  # the matrices of BERT's and XLM-R's layers


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is trained, with what.

    Attributes:
        model: the model.
        checkpoint: what it was loaded from.
        tokenizer: its own.
        modes: which of its representations the loss is about.
        data: what it is trained with.
        dev: what measures it, or `None`.
        negatives: the most of a query's hard negatives in a batch.
        prompt: goes before queries that have no prompt of their own.
        new_heads: whether it has heads or a projection that the checkpoint did not have.
        folder: where the data lies, as long as this lives.
    """

    model: TrainableModel
    checkpoint: Checkpoint
    tokenizer: M3Tokenizer
    modes: tuple[Mode, ...]
    data: TrainingData
    dev: Dev | None
    negatives: int
    prompt: str
    new_heads: bool
    folder: "TemporaryDirectory[str]"


def read_data(
    dataset: Sources, dev: DevSource, seed: int, show_progress: bool
) -> tuple[TrainingData, Dev | None, "TemporaryDirectory[str]"]:
    """The data, what measures, and the folder that the data lies in. Arguments as of `FineTuner.from_pretrained`."""
    sources, own = named(dataset)
    folder = TemporaryDirectory(prefix="m3-training-")
    data = TrainingData.write(sources, Path(folder.name), show_progress=show_progress)
    dev = own if dev is None else dev
    if dev is None:
        return *_held_out(data, seed), folder
    return data, None if dev is False else _dev(dev), folder


def _dev(dev: Source | JudgedSet) -> Dev:
    if isinstance(dev, str | Path) and Path(dev).is_dir():
        dev = load_beir(dev)
    if isinstance(dev, JudgedSet):
        return JudgedDev(dev)
    return dev_of(list(read_examples(dev)), "dev")


def _held_out(data: TrainingData, seed: int) -> tuple[TrainingData, Dev | None]:
    """Some records of the first data set of queries with passages, if it has enough of them."""
    for i, part in enumerate(data.parts):
        if not part.scored and len(part) >= _ENOUGH:
            order = np.random.default_rng(seed).permutation(len(part))
            taken = min(_MOST_HELD_OUT, round(len(part) * _HELD_OUT))
            dev = dev_of([part[index] for index in order[:taken].tolist()], part.name)
            kept: tuple[Part, ...] = (*data.parts[:i], part.select(np.sort(order[taken:])), *data.parts[i + 1 :])
            return TrainingData(kept, data.digest), dev
    return data, None


def ready_model(
    checkpoint: Checkpoint,
    tokenizer: M3Tokenizer,
    data: TrainingData,
    *,
    modes: Sequence[Mode] | None,
    multivector_dim: int | None,
    projection: bool,
    freeze: Freeze | Sequence[Freeze] | None,
    lora: Any,
    device: str | None,
    dtype: str,
    attention: str,
) -> tuple[TrainableModel, tuple[Mode, ...]]:
    """Loads a model with the heads that it is to have, and says which modes the loss is about.

    Arguments as of `FineTuner.from_pretrained`.
    """
    place, kind = choose_place(device, dtype)
    model = TrainableModel(checkpoint, tokenizer.special_ids, place, attention=attention, dtype=kind)
    wanted = tuple(mode for mode in MODES if mode in (model.modes if modes is None else modes))
    if not wanted or set(modes or ()) - set(MODES):
        raise InvalidInput(f"modes are some of 'dense', 'sparse' and 'multivector', not {modes!r}")
    if projection:
        if model.dense_linear is not None:
            raise InvalidInput("the model has a projection already: leave projection=True out")
        model.add_projection()
    if "sparse" in wanted and model.sparse_linear is None:
        model.add_sparse()
    if "multivector" in wanted and model.colbert_linear is None:
        width = min(_MULTIVECTOR, checkpoint.hidden_size) if multivector_dim is None else multivector_dim
        if not 1 <= width <= checkpoint.hidden_size:
            raise InvalidInput(f"multivector_dim must be from 1 to {checkpoint.hidden_size}, not {multivector_dim!r}")
        model.add_multivector(width, _sample(tokenizer, data), _SAMPLE_TOKENS)
    _choose_trained(model, wanted, (freeze,) if isinstance(freeze, str) else tuple(freeze or ()), lora)
    return model, wanted


def _sample(tokenizer: M3Tokenizer, data: TrainingData) -> list[IntArray]:
    """The token ids of the first records' texts."""
    part = data.parts[0]
    rows = part.rows.select(range(min(_SAMPLE, len(part))))
    texts = [text for row in rows for text in (row["query"], row["positives"][0])]
    return tokenizer.tokenize(texts, _SAMPLE_LENGTH).token_ids


def choose_place(device: str | None, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Where to train, and what the body computes in. Arguments as of `FineTuner.from_pretrained`."""
    place = choose_device(device or _own_device())
    if dtype not in ("auto", "float32", "bfloat16"):
        raise InvalidInput(f"dtype must be 'auto', 'float32' or 'bfloat16' for training, not {dtype!r}")
    return place, getattr(torch, best_float(place) if dtype == "auto" else dtype)


def _choose_trained(model: TrainableModel, modes: Sequence[Mode], freeze: Sequence[Freeze], lora: Any) -> None:
    if unknown := set(freeze) - set(get_args(Freeze)):
        raise InvalidInput(f"freeze must be some of {', '.join(map(repr, get_args(Freeze)))}, not {sorted(unknown)}")
    if lora and {"backbone", "matrices"} & set(freeze):
        raise InvalidInput("lora trains adapters in place of the body's weights: leave backbone and matrices unfrozen")
    heads = {"dense": model.dense_linear, "sparse": model.sparse_linear, "multivector": model.colbert_linear}
    for mode, head in heads.items():
        if head is not None and (mode not in modes or mode in freeze):
            head.requires_grad_(False)  # it goes along as it is
    if "backbone" in freeze:
        model.body.requires_grad_(False)
    elif "matrices" in freeze:
        for parameter in model.body.parameters():
            parameter.requires_grad_(parameter.ndim == 1)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InvalidInput(f"with {', '.join(freeze)} frozen there is nothing left to train")
    if lora:
        try:
            import peft
        except ImportError as error:
            raise MissingDependency("lora needs peft: pip install 'm3-retrieval[train]'") from error
        settings = peft.LoraConfig(r=16, lora_alpha=32, target_modules=_ADAPTED) if lora is True else lora
        model.body = peft.get_peft_model(model.body, settings)


def _own_device() -> str | None:
    """A process of several on one machine takes a card of its own."""
    if "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return None
