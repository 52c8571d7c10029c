"""Writing fusion weights into a model directory's `m3.json`, so that whoever loads it scores with them."""

import os
from pathlib import Path

from m3core.errors import InvalidInput
from m3core.fusion import Weights
from m3core.hub import MINI
from m3core.parts import read_object, write_json

_FILE = "m3.json"


def own_directory(model: str | Path) -> Path:
    """The directory that a model's settings can be written to.

    Raises:
        InvalidInput: the model is the bundled one or comes from a hub, or the directory cannot be written.
    """
    path = Path(os.path.expanduser(model))
    if str(model) == MINI or not path.is_dir():
        raise InvalidInput(
            f"weights are stored in a directory of yours, and {model} is none: m3 download {model} --to DIR makes one"
        )
    if not os.access(path, os.W_OK):
        raise InvalidInput(f"{path} cannot be written: weights are stored in its {_FILE}; copy it to where they can be")
    return path


def store_weights(model: str | Path, weights: Weights) -> Path:
    """Writes weights of the hybrid score to the directory's `m3.json`, and leaves all else that stands there.

    Where there is no such file, it then says nothing but the weights, so that nothing else changes; vectors and
    fingerprints never do.

    Args:
        model: a directory.
        weights: for (dense, sparse, multi-vector).

    Returns:
        The file.

    Raises:
        InvalidInput: as `own_directory`.
        InvalidModel: the file that is there is damaged.
    """
    path = own_directory(model) / _FILE
    settings = {**read_object(path), "score_weights": list(weights)}
    partial = path.with_name(f".{_FILE}.partial")
    write_json(partial, settings)
    partial.replace(path)
    return path
