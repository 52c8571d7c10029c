"""The mini's directory: what was trained, beside the matrices of its source."""

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from m3core.fusion import Weights
from m3core.mini.build.body import CONFIG, SETTINGS, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS, Tensors
from m3core.parts import read_object, write_json

_HEADS, _PROJECTION = "heads.safetensors", "2_Dense"


def write_mini(trained: Path, body: Path, weights: Weights, out: Path) -> None:
    """Writes it: matrices and embeddings as in the body's directory, and all else as it was trained, in float16.

    Args:
        trained: from `train`.
        body: what it was trained from.
        weights: of the hybrid score.
        out: the folder.
    """
    (out / _PROJECTION).mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, TOKENIZER, TOKENIZER_CONFIG):
        shutil.copyfile(body / name, out / name)
    shutil.copyfile(trained / _PROJECTION / "config.json", out / _PROJECTION / "config.json")
    stored, learned = load_file(body / WEIGHTS), _halved(trained / "model.safetensors")
    small = {name for name, values in stored.items() if values.ndim == 1}  # layer norms and biases
    save_file(stored | {name: learned[name] for name in small}, out / WEIGHTS)
    heads = _halved(trained / _HEADS)
    save_file(heads, out / _HEADS)
    save_file(_halved(trained / _PROJECTION / "model.safetensors"), out / _PROJECTION / "model.safetensors")
    written = {
        "multivector_dim": len(heads["colbert_linear.weight"]),
        "score_weights": list(weights),
        "projection": _PROJECTION,
    }
    write_json(out / SETTINGS, read_object(body / SETTINGS) | written)


def _halved(path: Path) -> Tensors:
    return {name: values.astype(np.float16) for name, values in load_file(path).items()}
