"""What a model directory is: its architecture, pooling, projection, heads and limits. Reads the small files only.

Three layouts are understood: our own (`m3.json`), sentence-transformers' (`modules.json`) and FlagEmbedding's (two head
files beside a Hugging Face model: CLS pooling). The first that names a pooling decides. All else in `m3.json` holds.
"""

import hashlib
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3core.errors import InvalidModel, M3Warning
from m3core.modules import Modules, read_projection
from m3core.output import Mode
from m3core.parts import HEAD_FILES, Head, Pooling, Projection, find_heads, known_pooling, read_object

_ROBERTA_LIKE = ("xlm-roberta", "roberta")  # their positions start behind the padding id
_SUPPORTED = (*_ROBERTA_LIKE, "bert")
_BGE_M3 = ("xlm-roberta", 8194)  # its positions


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
        hidden_size: width of the hidden states.
        head_dim: width of one attention head.
        position_padding: the padding id that positions start behind, or `None` where they start at 0.
        activation: transformers' name of the function between the two layers of a feed-forward block.
        layer_norm_eps: what is added to variances.
        heads: where the sparse and multi-vector heads are; only those that there are.
        projection: what pooled vectors go through, or `None`.
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
    projection: Projection | None = None
    multivector_dim: int | None = None
    score_weights: tuple[float, float, float] = (1.0, 0.0, 0.0)
    quantization: str | None = None
    languages: tuple[str, ...] = ()

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What the model can represent a text as."""
        return ("dense", *self.heads)

    @property
    def dense_dim(self) -> int:
        """Width of dense vectors."""
        return self.hidden_size if self.projection is None else self.projection.width

    @classmethod
    def read(
        cls, directory: Path, *, name: str, revision: str | None, default_pooling: Pooling | None = None
    ) -> "Checkpoint":
        """Reads a model directory's description.

        Args:
            directory: in one of the three layouts.
            name: what the user calls the model.
            revision: the hub commit; `None` makes a hash of the local files.
            default_pooling: of a model that does not say how to pool, normalized; `None` refuses it.

        Raises:
            InvalidModel: it is no model directory, of an unsupported kind, or does not say how to pool.
        """
        own = read_object(directory / "m3.json")
        modules = None if "pooling" in own else Modules.read(directory)
        body = directory if modules is None else modules.transformer
        if not (body / "config.json").is_file():
            raise InvalidModel(f"{body} is no model directory: it has no config.json")
        config = read_object(body / "config.json")
        model_type = config.get("model_type")
        if model_type not in _SUPPORTED:
            raise InvalidModel(f"{name} is of type {model_type!r}; supported are {', '.join(_SUPPORTED)}")
        heads = find_heads(directory, name)
        projection = modules.projection if modules is not None else _projection(own, directory)
        pooling, normalize = _pooling(own, modules, config, heads, directory, name, default_pooling)
        normalize = own.get("normalize", normalize)
        if not isinstance(normalize, bool):
            raise InvalidModel(f"{directory / 'm3.json'}: normalize must be true or false, not {normalize!r}")
        _check_prompts(directory, name)
        if (model_type, config.get("max_position_embeddings")) == _BGE_M3 and not heads and "pooling" not in own:
            warnings.warn(
                f"{name} has bge-m3's shape without its heads, {' and '.join(HEAD_FILES.values())}: it is dense only. "
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
            revision=revision or _hash(body, heads, projection),
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
            projection=projection,
            multivector_dim=dim,
            score_weights=(dense, sparse, multi),
            quantization=own.get("quantization"),
            languages=tuple(own.get("languages", ())),
        )


def _projection(own: dict[str, Any], directory: Path) -> Projection | None:
    """The Dense module whose folder `m3.json` names."""
    folder = own.get("projection")
    if folder is None:
        return None
    if not isinstance(folder, str) or not folder:
        raise InvalidModel(f"{directory / 'm3.json'}: projection must be the folder of a Dense module, not {folder!r}")
    return read_projection(directory / folder)


def _pooling(
    own: dict[str, Any],
    modules: Modules | None,
    config: dict[str, Any],
    heads: dict[Mode, Head],
    directory: Path,
    name: str,
    default: Pooling | None,
) -> tuple[Pooling, bool]:
    if "pooling" in own:
        return known_pooling(own["pooling"], directory / "m3.json"), True
    if modules is not None:
        return modules.pooling, modules.normalize
    if heads:
        return "cls", True
    uniem = config.get("uniem_pooling_strategy") or config.get("uniem_embedding_strategy")
    if uniem:
        return known_pooling({"last_mean": "mean"}.get(uniem, uniem), directory / "config.json"), False
    if default is not None:
        return default, True
    raise InvalidModel(
        f"{name} does not say how to pool: {directory} has no m3.json that does, modules.json or BGE-M3 head files. "
        'Write {"pooling": "cls"} or {"pooling": "mean"} to its m3.json'
    )


def _check_prompts(directory: Path, name: str) -> None:
    prompts = read_object(directory / "config_sentence_transformers.json").get("prompts") or {}
    if isinstance(prompts, dict) and any(prompts.values()):
        warnings.warn(
            f"{name} names prompts for sentence-transformers, {prompts}, which are not put before texts here; "
            "pass the query's as instruction=",
            M3Warning,
            stacklevel=5,
        )


def _stated_max_length(own: dict[str, Any], body: Path) -> int | None:
    settings = read_object(body / "sentence_bert_config.json")
    if settings.get("do_lower_case"):
        raise InvalidModel(f"{body / 'sentence_bert_config.json'} asks for do_lower_case, which is not supported")
    stated = (
        own.get("max_length")
        or settings.get("max_seq_length")
        or read_object(body / "tokenizer_config.json").get("model_max_length")
    )
    return int(stated) if stated else None


def _hash(body: Path, heads: dict[Mode, Head], projection: Projection | None) -> str:
    """A hash of what decides about vectors: weights, heads, projection, tokenizer."""
    weights = sorted(body.glob("model*.safetensors")) or sorted(body.glob("pytorch_model*.bin"))
    rest = {head.path for head in heads.values()} | {body / "tokenizer.json", body / "vocab.txt"}
    digest = hashlib.sha256()
    if projection is not None:
        rest.add(projection.linear.path)
        digest.update(projection.activation.encode())
    for path in (*weights, *sorted(rest)):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
