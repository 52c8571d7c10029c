"""sentence-transformers' outputs for a tiny random BERT, text by text, and ours, from one pack of all texts."""

import json
import shutil
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from m3core import M3Encoder
from m3core.errors import TruncationWarning, UnknownTokensWarning
from m3core.output import FloatArray

GOLDENS = Path(__file__).parent / "goldens"
TEXTS: dict[str, str] = json.loads((GOLDENS.parent / "texts.json").read_text(encoding="utf-8"))
TOLERANCE = 1e-5

LAYOUTS = ["m3e", "m3e_normalized"]  # as on the hub since 2023; as saved by sentence-transformers 6 with Normalize
both_layouts = pytest.mark.parametrize("name", LAYOUTS)


@cache
def load(name: str) -> M3Encoder:
    return M3Encoder(GOLDENS / name, dtype="float32", device="cpu", engine="torch", batch_tokens=1_000_000)


def encode(name: str) -> FloatArray:
    return encoded(load(name))


def encoded(encoder: M3Encoder) -> FloatArray:
    with warnings.catch_warnings():  # one text is cut, and its vocabulary has no Russian, Japanese or Arabic
        warnings.simplefilter("ignore", TruncationWarning)
        warnings.simplefilter("ignore", UnknownTokensWarning)
        dense = encoder.encode_documents(TEXTS.values()).dense
    assert dense is not None
    return dense


@both_layouts
def test_mean_pooled_vectors_are_the_same(name: str) -> None:
    expected = load_file(GOLDENS / f"{name}.safetensors")["dense"]
    np.testing.assert_allclose(encode(name), expected, rtol=0, atol=TOLERANCE)


@both_layouts
def test_the_stated_limit_is_found(name: str) -> None:
    assert load(name).max_length == 256  # not the 512 positions that the model has


@both_layouts
def test_the_longest_text_is_cut_with_a_warning(name: str) -> None:
    with pytest.warns(TruncationWarning, match=r"^1 of 1 texts"), pytest.warns(UnknownTokensWarning):
        load(name).encode_documents([TEXTS["long_mixed"]])


def test_vectors_keep_their_length_without_a_normalize_module() -> None:
    assert np.linalg.norm(encode("m3e"), axis=1).min() > 1.5


def test_vectors_have_unit_length_with_a_normalize_module() -> None:
    np.testing.assert_allclose(np.linalg.norm(encode("m3e_normalized"), axis=1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("m3e_dense_tanh", 24),
        ("m3e_dense_identity", 48),  # without a bias, and normalized
        ("m3e_dense_bin", 16),  # its weights are no safetensors
    ],
)
def test_projected_vectors_are_the_same(tmp_path: Path, name: str, width: int, engine: str) -> None:
    for part in ("m3e", name):
        shutil.copytree(GOLDENS / part, tmp_path, dirs_exist_ok=True)
    encoder = M3Encoder(tmp_path, dtype="float32", device="cpu", engine=engine)
    assert encoder.fingerprint.dense_dim == width
    expected = load_file(GOLDENS / f"{name}.safetensors")["dense"]
    np.testing.assert_allclose(encoded(encoder), expected, rtol=0, atol=TOLERANCE)
