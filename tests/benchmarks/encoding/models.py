"""Model directories of three shapes that all benchmarked systems can read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, PreTrainedModel, XLMRobertaConfig, XLMRobertaModel
from transformers.utils import logging

from encoding.texts import ROOT, SEED
from encoding.vocabulary import SIZE, make_wordpiece
from encoding.workloads import MODES

MINI = ROOT / "m3core" / "mini"
FULL_VOCABULARY = 250_002
_WIDTH, _LENGTH = 1024, 8192


@dataclass(frozen=True)
class Shape:
    """What a model is like.

    Attributes:
        about: in words.
        layers: of the model that it is the shape of.
        max_length: in tokens.
        modes: the sets of modes that it has.
    """

    about: str
    layers: int
    max_length: int
    modes: tuple[str, ...]


SHAPES = {
    "bge-m3": Shape("random weights, XLM-R 1024 wide with both heads, CLS pooling", 24, _LENGTH, tuple(MODES)),
    "m3e-base": Shape("random weights, BERT 768 wide, mean pooling, not normalised", 12, 512, ("dense",)),
    "m3-mini": Shape("the bundled model as a plain float32 checkpoint", 12, 512, tuple(MODES)),
}


def read_tokenizer(shape: str = "bge-m3") -> Tokenizer:
    """The tokenizer of the model, without truncation and padding."""
    if shape == "m3e-base":
        return make_wordpiece()
    tokenizer = Tokenizer.from_file(str(MINI / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def build_model(
    directory: Path, layers: int | None = None, shape: str = "bge-m3", *, full_vocabulary: bool = False
) -> int:
    """Writes a model.

    Args:
        directory: where to.
        layers: fewer than the shape has, for random weights.
        shape: one of `SHAPES`.
        full_vocabulary: whether bge-m3's table of embeddings has all its rows, those too that no token asks for, as
            the tokenizer is that of m3-mini.

    Returns:
        The number of the body's parameters.
    """
    logging.disable_progress_bar()
    torch.manual_seed(SEED)
    number = layers or SHAPES[shape].layers
    if shape == "bge-m3":
        model = _bge_m3(directory, number, FULL_VOCABULARY if full_vocabulary else read_tokenizer().get_vocab_size())
    elif shape == "m3e-base":
        model = _m3e_base(directory, number)
    else:
        model = _m3_mini(directory)
    model.save_pretrained(directory)
    return sum(p.numel() for p in model.parameters())


def _bge_m3(directory: Path, layers: int, vocabulary: int) -> PreTrainedModel:
    config = XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=_WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=16,
        intermediate_size=4 * _WIDTH,
        max_position_embeddings=_LENGTH + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    model = XLMRobertaModel(config)
    for name, width in (("sparse_linear", 1), ("colbert_linear", _WIDTH)):
        torch.save(torch.nn.Linear(_WIDTH, width, dtype=torch.float16).state_dict(), directory / f"{name}.pt")
    _write_tokenizer(directory, read_tokenizer(), _LENGTH, _json(MINI / "tokenizer_config.json"))
    _write_modules(directory, "cls", _WIDTH, normalize=True)
    return model


def _m3e_base(directory: Path, layers: int) -> PreTrainedModel:
    shape = SHAPES["m3e-base"]
    model = BertModel(BertConfig(vocab_size=SIZE, num_hidden_layers=layers, max_position_embeddings=shape.max_length))
    tokens = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens}
    _write_tokenizer(directory, read_tokenizer("m3e-base"), shape.max_length, settings)
    _write_modules(directory, "mean", model.config.hidden_size, normalize=False)
    return model


def _m3_mini(directory: Path) -> PreTrainedModel:
    from m3core.checkpoint import Checkpoint
    from m3core.weights import load_body

    checkpoint = Checkpoint.read(MINI, name="m3-mini", revision=None)
    model = load_body(checkpoint, torch.float32, torch.device("cpu"))
    heads = load_file(MINI / "heads.safetensors")
    for name in ("sparse_linear", "colbert_linear"):
        parts = {part: heads[f"{name}.{part}"] for part in ("weight", "bias")}
        torch.save(parts, directory / f"{name}.pt")
    _write_tokenizer(directory, read_tokenizer(), checkpoint.max_length, _json(MINI / "tokenizer_config.json"))
    _write_modules(directory, checkpoint.pooling, checkpoint.hidden_size, normalize=checkpoint.normalize)
    return model


def _write_tokenizer(directory: Path, tokenizer: Tokenizer, max_length: int, settings: dict[str, Any]) -> None:
    tokenizer.save(str(directory / "tokenizer.json"))
    special = {name: token for name, token in settings.items() if name.endswith("_token")}
    _write(directory / "special_tokens_map.json", special)
    _write(directory / "tokenizer_config.json", settings | {"model_max_length": max_length})
    _write(directory / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})


def _write_modules(directory: Path, pooling: str, width: int, *, normalize: bool) -> None:
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), *([("Normalize", "2_Normalize")] if normalize else [])]
    _write(
        directory / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ],
    )
    (directory / "2_Normalize").mkdir(exist_ok=True)
    flags = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
    _write(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **flags})


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
