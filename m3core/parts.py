"""The parts behind a model's transformer: how it pools, where its projection and its heads are. JSON files."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from m3core.errors import InvalidModel, M3Warning
from m3core.output import Mode

Pooling = Literal["cls", "mean"]
Activation = Literal["identity", "tanh"]

HEAD_FILES: dict[Mode, str] = {"sparse": "sparse_linear.pt", "multivector": "colbert_linear.pt"}
_HEAD_KEYS: dict[Mode, str] = {"sparse": "sparse_linear", "multivector": "colbert_linear"}
_OWN = "heads.safetensors"


@dataclass(frozen=True)
class Head:
    """Where a head's weight and bias are: a file, and what its two names begin with."""

    path: Path
    prefix: str


@dataclass(frozen=True)
class Projection:
    """A linear layer that pooled vectors go through: sentence-transformers' Dense.

    Attributes:
        linear: where its weight is, `(width, hidden)`, and its bias.
        width: of what it gives.
        bias: whether there is one.
        activation: what its values go through.
    """

    linear: Head
    width: int
    bias: bool
    activation: Activation


def find_heads(directory: Path, name: str) -> dict[Mode, Head]:
    """The heads in our own file, or else in FlagEmbedding's; `name` is the model's.

    Raises:
        InvalidModel: our own file is damaged.
    """
    stored = _stored(directory / _OWN)
    if stored is not None:
        return {m: Head(directory / _OWN, f"{key}.") for m, key in _HEAD_KEYS.items() if f"{key}.weight" in stored}
    heads = {mode: Head(directory / file, "") for mode, file in HEAD_FILES.items() if (directory / file).is_file()}
    if len(heads) == 1:
        missing = next(mode for mode in HEAD_FILES if mode not in heads)
        warnings.warn(f"{name} has no {HEAD_FILES[missing]}, so it has no {missing} mode", M3Warning, stacklevel=5)
    return heads


def _stored(path: Path) -> set[str] | None:
    """The names in a safetensors file; `None` where there is no file."""
    if not path.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise InvalidModel(f"{path} is damaged: {error}") from error


def known_pooling(value: object, path: Path) -> Pooling:
    """A pooling, as a file names it.

    Raises:
        InvalidModel: another one.
    """
    if value == "cls":
        return "cls"
    if value == "mean":
        return "mean"
    raise InvalidModel(f"{path} asks for pooling {value!r}; supported are 'cls' and 'mean'")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InvalidModel: it is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidModel(f"{path} is not valid JSON ({error}); fetch or write it again") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, empty where there is no file.

    Raises:
        InvalidModel: it is not valid JSON, or no object.
    """
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise InvalidModel(f"{path} holds no JSON object; fetch or write it again")
    return content


def write_json(path: Path, content: object) -> None:
    """Writes a JSON file, in its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def completed(target: Path) -> Iterator[Path]:
    """Where to write meanwhile; what is there takes the target's place at the end, and goes if that does not come."""
    partial = target.with_name(target.name + ".partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
