"""Makes sentence-transformers' outputs for models with a Dense module behind pooling.

Run by hand after `make_goldens.py`, in the same environment:

    reference/bin/python tests/parity/make_dense_goldens.py

Each is the model `m3e` with more modules. Only what they add to its files is stored.
"""

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize

GOLDENS = Path(__file__).parent / "goldens"
TEXTS: dict[str, str] = json.loads((Path(__file__).parent / "texts.json").read_text(encoding="utf-8"))
HIDDEN = 32


def main() -> None:
    """Writes the folders and the outputs of three models."""
    torch.set_num_threads(1)
    torch.manual_seed(4)
    make("m3e_dense_tanh", dense(24, bias=True, activation=torch.nn.Tanh()))
    make("m3e_dense_identity", dense(48, bias=False, activation=torch.nn.Identity()), Normalize())
    make("m3e_dense_bin", dense(16, bias=True, activation=torch.nn.Identity()), safetensors=False)


def dense(width: int, *, bias: bool, activation: torch.nn.Module) -> Dense:
    """A random one, large enough for tanh to bend."""
    weight, offset = torch.randn(width, HIDDEN) * 0.4, torch.randn(width) * 0.3
    return Dense(HIDDEN, width, bias, activation, init_weight=weight, init_bias=offset if bias else None)


def make(name: str, *modules: torch.nn.Module, safetensors: bool = True) -> None:
    """A model's files and outputs; it is loaded from its files before it is asked."""
    shutil.rmtree(GOLDENS / name, ignore_errors=True)
    with TemporaryDirectory() as folder:
        whole = SentenceTransformer(modules=[*SentenceTransformer(str(GOLDENS / "m3e"), device="cpu"), *modules])
        whole.save_pretrained(folder, create_model_card=False, safe_serialization=safetensors)
        for path in Path(folder).iterdir():
            if path.is_dir():
                shutil.copytree(path, GOLDENS / name / path.name)
        shutil.copy(Path(folder) / "modules.json", GOLDENS / name)
    with TemporaryDirectory() as folder:
        for part in ("m3e", name):
            shutil.copytree(GOLDENS / part, folder, dirs_exist_ok=True)
        outputs = SentenceTransformer(folder, device="cpu").encode(
            list(TEXTS.values()), batch_size=1, show_progress_bar=False
        )
    save_file({"dense": outputs}, GOLDENS / f"{name}.safetensors")


if __name__ == "__main__":
    main()
