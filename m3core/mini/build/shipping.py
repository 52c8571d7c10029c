"""The mini's directory: what was trained, beside the matrices of its source."""

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from m3core.mini.build.body import CONFIG, SETTINGS, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS, write_json
from m3core.parts import read_object
from m3core.scoring import Weights

_HEADS, _PROJECTION = "heads.safetensors", "2_Dense"


def write_mini(trained: Path, body: Path, weights: Weights, out: Path) -> None:
    """Writes it: matrices and embeddings as in the body's directory, and all else as it was trained, in float16.

    Args:
        trained: from `train`.
        body: what it was trained from.
        weights: of the hybrid score.
        out: the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, TOKENIZER, TOKENIZER_CONFIG):
        shutil.copyfile(body / name, out / name)
    now = load_file(trained / "model.safetensors")
    stored = load_file(body / WEIGHTS)
    small = {name for name, values in stored.items() if values.ndim == 1}  # layer norms and biases
    save_file({n: now[n].astype(np.float16) if n in small else values for n, values in stored.items()}, out / WEIGHTS)
    heads = load_file(trained / _HEADS)
    save_file({name: values.astype(np.float16) for name, values in heads.items()}, out / _HEADS)
    projection = load_file(trained / _PROJECTION / "model.safetensors")
    (out / _PROJECTION).mkdir(exist_ok=True)
    shutil.copyfile(trained / _PROJECTION / "config.json", out / _PROJECTION / "config.json")
    save_file(
        {name: values.astype(np.float16) for name, values in projection.items()},
        out / _PROJECTION / "model.safetensors",
    )
    written = {"multivector_dim": len(heads["colbert_linear.weight"]), "score_weights": list(weights)}
    write_json(out / SETTINGS, read_object(body / SETTINGS) | written | {"projection": _PROJECTION})
