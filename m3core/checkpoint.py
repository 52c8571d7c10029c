"""What a model directory is: its architecture, pooling, heads and limits. Reads the small files only.

Three layouts are understood: our own (`m3.json`), sentence-transformers' (`modules.json`) and FlagEmbedding's (two head
files beside a plain Hugging Face model, which means CLS pooling). The first that is there decides.
"""

import hashlib
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from m3core.errors import InvalidModel, M3Warning
from m3core.output import Mode

Pooling = Literal["cls", "mean"]

_ROBERTA_LIKE = ("xlm-roberta", "roberta")  # their positions start behind the padding id
_SUPPORTED = (*_ROBERTA_LIKE, "bert")
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
        own = _read_json(directory / "m3.json", {})
        modules = _read_json(directory / "modules.json", None)
        body = directory if own or modules is None else directory / _transformer_path(modules, directory)
        config = _read_json(body / "config.json", None)
        if config is None:
            raise InvalidModel(f"{body} is no model directory: it has no config.json")
        model_type = config.get("model_type")
        if model_type not in _SUPPORTED:
            raise InvalidModel(f"{name} is of type {model_type!r}; supported are {', '.join(_SUPPORTED)}")
        heads = _find_heads(directory, name)
        pooling, normalize = _pooling(own, modules, config, heads, directory, name)
        try:
            padding = int(config.get("pad_token_id", 1)) if model_type in _ROBERTA_LIKE else None
            positions = int(config["max_position_embeddings"]) - (0 if padding is None else padding + 1)
            hidden = int(config["hidden_size"])
            head_dim = hidden // int(config["num_attention_heads"])
            weights = own.get("score_weights") or (
                (1.0, 0.3 if "sparse" in heads else 0.0, 1.0 if "multivector" in heads else 0.0)
            )
            dense, sparse, multi = (float(w) for w in weights)
            checkpoint = cls(
                name=name,
                revision=revision or _hash(directory, body),
                path=body,
                family=str(own.get("family", "bge-m3" if heads else "dense")),
                model_type=model_type,
                pooling=pooling,
                normalize=normalize,
                max_length=min(positions, _stated_max_length(own, body) or positions),
                hidden_size=hidden,
                head_dim=head_dim,
                position_padding=padding,
                heads=heads,
                multivector_dim=own.get("multivector_dim"),
                score_weights=(dense, sparse, multi),
                quantization=own.get("quantization"),
                languages=tuple(own.get("languages", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidModel(f"{directory} has a config.json or m3.json that cannot be used: {error!r}") from error
        if checkpoint.multivector_dim and "multivector" not in heads:
            raise InvalidModel(f"{directory / 'm3.json'} says that {name} has multi-vectors, but their head is missing")
        return checkpoint


def _read_json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidModel(f"{path} is not valid JSON ({error}); fetch or write it again") from error


def _transformer_path(modules: list[dict[str, str]], directory: Path) -> str:
    for module in modules:
        if _kind(module) == "Transformer":
            return module["path"]
    raise InvalidModel(f"{directory / 'modules.json'} names no Transformer module")


def _kind(module: dict[str, str]) -> str:
    return module["type"].rsplit(".", 1)[-1]


def _pooling(
    own: dict[str, Any], modules: Any, config: dict[str, Any], heads: dict[Mode, Head], directory: Path, name: str
) -> tuple[Pooling, bool]:
    if own:
        return _known_pooling(own.get("pooling"), directory / "m3.json"), bool(own.get("normalize", True))
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
                settings = _read_json(path, {})
                flags = [k for k, on in settings.items() if k.startswith("pooling_mode_") and on is True]
                mode = settings.get("pooling_mode") or "+".join(flags)
                pooling = _known_pooling(
                    mode.removeprefix("pooling_mode_").split("_tokens")[0].split("_token")[0], path
                )
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
        warnings.warn(f"{name} has no {_HEAD_FILES[missing]}, so it has no {missing} mode", M3Warning, stacklevel=2)
    return heads


def _stated_max_length(own: dict[str, Any], body: Path) -> int | None:
    stated = (
        own.get("max_length")
        or _read_json(body / "sentence_bert_config.json", {}).get("max_seq_length")
        or _read_json(body / "tokenizer_config.json", {}).get("model_max_length")
    )
    return int(stated) if stated else None


def _hash(directory: Path, body: Path) -> str:
    """A hash that changes with training: of the heads, and of both ends of each weights file."""
    end = 1 << 20
    digest = hashlib.sha256()
    for path in sorted(
        {*directory.glob("*.safetensors"), *directory.glob("*.pt"), *body.glob("*.safetensors"), *body.glob("*.bin")}
    ):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            digest.update(file.read(end))
            file.seek(max(end, size - end))
            digest.update(file.read(end))
    return digest.hexdigest()[:16]
