"""Writing a trained model: a directory that M3Encoder, sentence-transformers, FlagEmbedding and frameworks load.

Body and heads are safetensors; FlagEmbedding's two head files are written as well, as it reads no others.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from m3core.checkpoint import Checkpoint
from m3core.modules import IDENTITY, TANH
from m3core.output import Mode
from m3core.parts import HEAD_FILES, read_object, write_json
from m3core.train.model import TrainableModel
from m3core.weights import quiet

_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "added_tokens.json",
)
_TYPES = "sentence_transformers.models."  # known to all of its versions


def save_model(model: TrainableModel, checkpoint: Checkpoint, directory: Path, *, max_length: int) -> None:
    """Writes a model.

    Args:
        model: what was trained; adapters are merged already.
        checkpoint: what it was trained from.
        directory: where to; made, and files in it written over.
        max_length: the longest text in tokens.
    """
    directory.mkdir(parents=True, exist_ok=True)
    body: Any = model.body
    with quiet():
        body.save_pretrained(directory)
    for name in _TOKENIZER:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, directory / name)
    tokenizer = read_object(directory / "tokenizer_config.json")
    write_json(directory / "tokenizer_config.json", tokenizer | {"model_max_length": max_length})
    heads: dict[Mode, torch.nn.Module | None] = {"sparse": model.sparse_linear, "multivector": model.colbert_linear}
    stored: dict[str, torch.Tensor] = {}
    for mode, head in heads.items():
        if head is not None:
            state = _state(head)
            stored |= {f"{Path(HEAD_FILES[mode]).stem}.{name}": values for name, values in state.items()}
            torch.save(state, directory / HEAD_FILES[mode])
    if stored:
        save_file(stored, directory / "heads.safetensors")
    normalize = checkpoint.normalize or bool(stored)  # of several modes no sum makes sense otherwise
    _save_modules(model, checkpoint, directory, normalize, max_length)
    rows = model.colbert_linear
    settings = {
        "family": "bge-m3" if len(stored) == 4 else "dense",
        "pooling": checkpoint.pooling,
        "normalize": normalize,
        "max_length": max_length,
        "multivector_dim": None if rows is None else len(_state(rows)["weight"]),
        "projection": None if model.dense_linear is None else "2_Dense",
        "score_weights": score_weights(model, checkpoint),
        "languages": checkpoint.languages,
    }
    write_json(directory / "m3.json", {name: value for name, value in settings.items() if value is not None})


def score_weights(model: TrainableModel, checkpoint: Checkpoint) -> tuple[float, float, float]:
    """The checkpoint's, or the paper's where it did not have all of these heads."""
    if checkpoint.modes == model.modes:
        return checkpoint.score_weights
    return 1.0, 0.3 if "sparse" in model.modes else 0.0, 1.0 if "multivector" in model.modes else 0.0


def _save_modules(
    model: TrainableModel, checkpoint: Checkpoint, directory: Path, normalize: bool, max_length: int
) -> None:
    """What sentence-transformers reads."""
    pooled = model.dense_linear
    kinds = [
        "Transformer",
        "Pooling",
        *(["Dense"] if pooled is not None else []),
        *(["Normalize"] if normalize else []),
    ]
    folders = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds[1:], start=1))]
    modules = [
        {"idx": i, "name": str(i), "path": folder, "type": _TYPES + kind}
        for i, (kind, folder) in enumerate(zip(kinds, folders, strict=True))
    ]
    write_json(directory / "modules.json", modules)
    pooling = {
        "word_embedding_dimension": checkpoint.hidden_size,
        "pooling_mode_cls_token": checkpoint.pooling == "cls",
        "pooling_mode_mean_tokens": checkpoint.pooling == "mean",
    }
    write_json(directory / "1_Pooling" / "config.json", pooling)
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    if pooled is not None:
        state = _state(pooled)
        width, hidden = state["weight"].shape
        bent = checkpoint.projection is not None and checkpoint.projection.activation == "tanh"
        dense = {
            "in_features": hidden,
            "out_features": width,
            "bias": "bias" in state,
            "activation_function": TANH if bent else IDENTITY,
        }
        write_json(directory / "2_Dense" / "config.json", dense)
        save_file(
            {f"linear.{name}": values for name, values in state.items()}, directory / "2_Dense" / "model.safetensors"
        )
    if normalize:
        (directory / folders[-1]).mkdir(exist_ok=True)


def _state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: values.detach().cpu().contiguous() for name, values in module.state_dict().items()}
