"""What a model directory is: its architecture, pooling, heads and limits. Reads the small files only.

Three layouts are understood: our own (`m3.json`), sentence-transformers' (`modules.json`) and FlagEmbedding's (two head
files beside a plain Hugging Face model, which means CLS pooling). The first that is there decides.
"""

import hashlib
import json
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from m3core.errors import InvalidModel, M3Warning
from m3core.output import Mode

Pooling = Literal["cls", "mean"]

_ROBERTA_LIKE = ("xlm-roberta", "roberta")  # their positions start behind the padding id
_SUPPORTED = (*_ROBERTA_LIKE, "bert")
_BGE_M3 = 8194  # its positions
_HEAD_FILES: dict[Mode, str] = {"sparse": "sparse_linear.pt", "multivector": "colbert_linear.pt"}
_HEAD_KEYS: dict[Mode, str] = {"sparse": "sparse_linear", "multivector": "colbert_linear"}


@dataclass(frozen=True)
class Head:
    """Where a head's weight and bias are: a file, and what its two names begin with."""

    path: Path
    prefix: str


@dataclass(frozen=True)
class Checkpoint:
    """A model directory, understood.

    Attributes:
        name: what the user calls it: a hub id, `"m3-mini"` or the directory's name.
        revision: the hub commit, or a hash of the local files.
        path: the directory with `config.json`, weights and tokenizer.
        family: `"bge-m3"` with heads, `"dense"` without, or what `m3.json` says.
        model_type: transformers' name of the architecture.
        pooling: how dense vectors are pooled.
        normalize: whether they get unit length.
        max_length: the longest text in tokens, special tokens included.
        hidden_size: width of the hidden states and of dense vectors.
        head_dim: width of one attention head.
        position_padding: the padding id that positions start behind, or `None` where they start at 0.
        activation: transformers' name of the function between the two layers of a feed-forward block.
        layer_norm_eps: what is added to variances.
        heads: where the sparse and multi-vector heads are; only those that there are.
        multivector_dim: what `m3.json` says of it.
        score_weights: for (dense, sparse, multi-vector) in the hybrid score.
        quantization: how weights are stored, `"q4-block32"`, or `None` for plain ones.
        languages: the languages that the vocabulary covers, if it is not for all.
    """

    name: str
    revision: str
    path: Path
    family: str
    model_type: str
    pooling: Pooling
    normalize: bool
    max_length: int
    hidden_size: int
    head_dim: int
    position_padding: int | None
    activation: str
    layer_norm_eps: float
    heads: dict[Mode, Head] = field(default_factory=dict)
    multivector_dim: int | None = None
    score_weights: tuple[float, float, float] = (1.0, 0.0, 0.0)
    quantization: str | None = None
    languages: tuple[str, ...] = ()

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What the model can represent a text as."""
        return ("dense", *self.heads)

    @classmethod
    def read(cls, directory: Path, *, name: str, revision: str | None) -> "Checkpoint":
        """Reads a model directory's description.

        Args:
            directory: in one of the three layouts.
            name: what the user calls the model.
            revision: the hub commit; `None` makes a hash of the local files.

        Raises:
            InvalidModel: it is no model directory, of an unsupported kind, or does not say how to pool.
        """
        own = _read_object(directory / "m3.json")
        modules = _read_modules(directory / "modules.json")
        body = directory if own or modules is None else directory / _transformer_path(modules, directory)
        if not (body / "config.json").is_file():
            raise InvalidModel(f"{body} is no model directory: it has no config.json")
        config = _read_object(body / "config.json")
        model_type = config.get("model_type")
        if model_type not in _SUPPORTED:
            raise InvalidModel(f"{name} is of type {model_type!r}; supported are {', '.join(_SUPPORTED)}")
        heads = _find_heads(directory, name)
        pooling, normalize = _pooling(own, modules, config, heads, directory, name)
        _check_prompts(directory, name)
        if not heads and not own and model_type == "xlm-roberta" and config.get("max_position_embeddings") == _BGE_M3:
            warnings.warn(
                f"{name} has bge-m3's shape without its heads, {' and '.join(_HEAD_FILES.values())}: it is dense only. "
                "Put them beside its config.json for all three modes",
                M3Warning,
                stacklevel=4,
            )
        try:
            padding = int(config.get("pad_token_id", 1)) if model_type in _ROBERTA_LIKE else None
            positions = int(config["max_position_embeddings"]) - (0 if padding is None else padding + 1)
            max_length = min(positions, _stated_max_length(own, body) or positions)
            hidden = int(config["hidden_size"])
            head_dim = hidden // int(config["num_attention_heads"])
            epsilon = float(config.get("layer_norm_eps", 1e-12))
            default = (1.0, 0.3 if "sparse" in heads else 0.0, 1.0 if "multivector" in heads else 0.0)
            dense, sparse, multi = (float(w) for w in own.get("score_weights", default))
            if max_length < 3 or not all(math.isfinite(w) for w in (dense, sparse, multi)):
                raise ValueError(f"maximum length {max_length}, score weights {(dense, sparse, multi)}")
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise InvalidModel(f"{directory} has settings that cannot be used: {error!r}") from error
        dim = own.get("multivector_dim")
        if dim is not None and "multivector" not in heads:
            raise InvalidModel(f"{directory / 'm3.json'} says that {name} has multi-vectors, but their head is missing")
        return cls(
            name=name,
            revision=revision or _hash(body, heads),
            path=body,
            family=str(own.get("family", "bge-m3" if heads else "dense")),
            model_type=model_type,
            pooling=pooling,
            normalize=normalize,
            max_length=max_length,
            hidden_size=hidden,
            head_dim=head_dim,
            position_padding=padding,
            activation=str(config.get("hidden_act", "gelu")),
            layer_norm_eps=epsilon,
            heads=heads,
            multivector_dim=dim,
            score_weights=(dense, sparse, multi),
            quantization=own.get("quantization"),
            languages=tuple(own.get("languages", ())),
        )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidModel(f"{path} is not valid JSON ({error}); fetch or write it again") from error


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, empty where there is no file."""
    content = _read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise InvalidModel(f"{path} holds no JSON object; fetch or write it again")
    return content


def _read_modules(path: Path) -> list[dict[str, str]] | None:
    if not path.is_file():
        return None
    modules = _read_json(path)
    if not isinstance(modules, list) or not all(
        isinstance(m, dict) and isinstance(m.get("path"), str) and isinstance(m.get("type"), str) for m in modules
    ):
        raise InvalidModel(f"{path} is no list of modules, each with a path and a type")
    return modules


def _transformer_path(modules: list[dict[str, str]], directory: Path) -> str:
    for module in modules:
        if _kind(module) == "Transformer":
            return module["path"]
    raise InvalidModel(f"{directory / 'modules.json'} names no Transformer module")


def _kind(module: dict[str, str]) -> str:
    return module["type"].rsplit(".", 1)[-1]


def _pooling(
    own: dict[str, Any],
    modules: list[dict[str, str]] | None,
    config: dict[str, Any],
    heads: dict[Mode, Head],
    directory: Path,
    name: str,
) -> tuple[Pooling, bool]:
    if own:
        normalize = own.get("normalize", True)
        if not isinstance(normalize, bool):
            raise InvalidModel(f"{directory / 'm3.json'}: normalize must be true or false, not {normalize!r}")
        return _known_pooling(own.get("pooling"), directory / "m3.json"), normalize
    if modules is not None:
        return _pooling_of_modules(modules, directory)
    if heads:
        return "cls", True
    uniem = config.get("uniem_pooling_strategy") or config.get("uniem_embedding_strategy")
    if uniem:
        return _known_pooling({"last_mean": "mean"}.get(uniem, uniem), directory / "config.json"), False
    raise InvalidModel(
        f"{name} does not say how to pool: {directory} has no m3.json, modules.json or BGE-M3 head files. "
        'Write {"pooling": "cls"} or {"pooling": "mean"} to its m3.json'
    )


def _pooling_of_modules(modules: list[dict[str, str]], directory: Path) -> tuple[Pooling, bool]:
    pooling: Pooling | None = None
    normalize = False
    for module in modules:
        match _kind(module):
            case "Transformer":
                pass
            case "Pooling":
                path = directory / module["path"] / "config.json"
                settings = _read_object(path)
                flags = [k for k, on in settings.items() if k.startswith("pooling_mode_") and on is True]
                stated = settings.get("pooling_mode", flags[0] if len(flags) == 1 else flags)
                known = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
                pooling = _known_pooling(known.get(str(stated), stated), path)
            case "Normalize":
                normalize = True
            case other:
                raise InvalidModel(f"{directory / 'modules.json'} has a module {other}, which is not supported")
    if pooling is None:
        raise InvalidModel(f"{directory / 'modules.json'} has no Pooling module")
    return pooling, normalize


def _known_pooling(value: object, path: Path) -> Pooling:
    if value == "cls":
        return "cls"
    if value == "mean":
        return "mean"
    raise InvalidModel(f"{path} asks for pooling {value!r}; supported are 'cls' and 'mean'")


def _check_prompts(directory: Path, name: str) -> None:
    prompts = _read_object(directory / "config_sentence_transformers.json").get("prompts") or {}
    if isinstance(prompts, dict) and any(prompts.values()):
        warnings.warn(
            f"{name} names prompts for sentence-transformers, {prompts}, which are not put before texts here; "
            "pass the query's as instruction=",
            M3Warning,
            stacklevel=5,
        )


def _find_heads(directory: Path, name: str) -> dict[Mode, Head]:
    heads: dict[Mode, Head] = {}
    own = directory / "heads.safetensors"
    if own.is_file():
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(own, "np") as file:
                stored = set(file.keys())
        except SafetensorError as error:
            raise InvalidModel(f"{own} is damaged: {error}") from error
        return {m: Head(own, f"{key}.") for m, key in _HEAD_KEYS.items() if f"{key}.weight" in stored}
    for mode, file_name in _HEAD_FILES.items():
        if (directory / file_name).is_file():
            heads[mode] = Head(directory / file_name, "")
    if len(heads) == 1:
        missing = next(mode for mode in _HEAD_FILES if mode not in heads)
        warnings.warn(f"{name} has no {_HEAD_FILES[missing]}, so it has no {missing} mode", M3Warning, stacklevel=5)
    return heads


def _stated_max_length(own: dict[str, Any], body: Path) -> int | None:
    settings = _read_object(body / "sentence_bert_config.json")
    if settings.get("do_lower_case"):
        raise InvalidModel(f"{body / 'sentence_bert_config.json'} asks for do_lower_case, which is not supported")
    stated = (
        own.get("max_length")
        or settings.get("max_seq_length")
        or _read_object(body / "tokenizer_config.json").get("model_max_length")
    )
    return int(stated) if stated else None


def _hash(body: Path, heads: dict[Mode, Head]) -> str:
    """A hash of the files that decide about vectors: weights, heads, tokenizer."""
    weights = sorted(body.glob("model*.safetensors")) or sorted(body.glob("pytorch_model*.bin"))
    rest = {head.path for head in heads.values()} | {body / "tokenizer.json", body / "vocab.txt"}
    digest = hashlib.sha256()
    for path in (*weights, *sorted(rest)):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
