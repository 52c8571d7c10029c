"""A projection behind pooling: sentence-transformers' Dense module, in its layout and ours."""

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import ZH_EN, save_m3, save_m3e, save_own, write_json

from m3core import InvalidModel, M3Encoder

TEXTS = [*ZH_EN[:4], "a b c 中国 me of it"]
CPU: dict[str, Any] = {"device": "cpu", "normalize": False}


def encode(folder: Path, **options: Any) -> np.ndarray:
    return M3Encoder(folder, **CPU, **options).encode_documents(TEXTS, modes=["dense"]).dense


def linear(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    stored = load_file(path)
    weight, bias = stored["linear.weight"], stored.get("linear.bias")
    return lambda rows: torch.nn.functional.linear(torch.from_numpy(rows), weight, bias).numpy()


@pytest.mark.parametrize("options", [{"engine": "torch"}, {"engine": "openvino"}, {"mcls": 3}], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ours_is_applied_in_float32_to_what_is_pooled(tmp_path: Path, bias: bool, dtype: str, options: dict) -> None:
    pooled = encode(save_m3(tmp_path / "plain"), dtype=dtype, **options)
    folder = save_own(tmp_path / "own", dense=24, bias=bias)
    expected = linear(folder / "2_Dense" / "model.safetensors")(pooled)
    np.testing.assert_allclose(encode(folder, dtype=dtype, **options), expected, atol=1e-5)


def test_it_is_for_dense_alone_and_comes_before_normalization(m3_dir: Path, tmp_path: Path) -> None:
    folder = save_own(tmp_path, dense=24)
    plain, projected = (M3Encoder(f, dtype="float32", device="cpu").encode_documents(TEXTS) for f in (m3_dir, folder))
    np.testing.assert_allclose(np.linalg.norm(projected.dense, axis=1), 1, atol=1e-6)
    assert [s.as_dict() for s in projected.sparse] == [s.as_dict() for s in plain.sparse]
    np.testing.assert_array_equal(projected.multivector[4], plain.multivector[4])
    assert (projected.fingerprint.dense_dim, plain.fingerprint.dense_dim) == (24, 32)
    assert projected.dense.shape == (5, 24)
    assert M3Encoder(folder, device="cpu").encode_documents([]).dense.shape == (0, 24)


@pytest.mark.parametrize("name", ["torch.nn.Tanh", "torch.nn.modules.activation.Tanh"])
def test_tanh_is_applied_behind_it(tmp_path: Path, name: str) -> None:
    pooled = encode(save_m3e(tmp_path / "plain"), dtype="float32")
    folder = save_m3e(tmp_path / "dense", dense=24, activation=name)
    expected = np.tanh(linear(folder / "2_Dense" / "model.safetensors")(pooled))
    np.testing.assert_allclose(encode(folder, dtype="float32"), expected, atol=1e-5)


def test_m3_json_decides_over_a_dense_module(tmp_path: Path) -> None:
    plain = encode(save_m3e(tmp_path / "plain"), dtype="float32")
    folder = save_m3e(tmp_path / "dense", dense=24)
    write_json(folder / "m3.json", {"pooling": "mean"})
    np.testing.assert_array_equal(encode(folder, dtype="float32"), plain)


def test_int8_weights_go_with_it(tmp_path: Path) -> None:
    folder = save_own(tmp_path, dense=24)
    exact, first, again = (encode(folder, dtype=dtype) for dtype in ("float32", "int8", "int8"))
    assert (folder / "int8.safetensors").is_file()
    np.testing.assert_array_equal(first, again)
    cosines = (exact * first).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(first, axis=1)
    assert cosines.min() > 0.99


def test_a_change_of_it_changes_the_revision(tmp_path: Path) -> None:
    folder = save_m3e(tmp_path, dense=24)
    revisions = {M3Encoder(folder, device="cpu").fingerprint.revision}
    configure(folder, activation_function="torch.nn.modules.linear.Identity")
    revisions.add(M3Encoder(folder, device="cpu").fingerprint.revision)
    change(folder, lambda stored: stored["linear.weight"].__setitem__((3, 3), 0.25))
    revisions.add(M3Encoder(folder, device="cpu").fingerprint.revision)
    assert len(revisions) == 3


def configure(folder: Path, **settings: object) -> None:
    path = folder / "2_Dense" / "config.json"
    write_json(path, json.loads(path.read_text()) | settings)


def change(folder: Path, how: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "2_Dense" / "model.safetensors"
    stored = load_file(path)
    how(stored)
    save_file(stored, path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation_function": "torch.nn.modules.activation.ReLU"}, r"activation 'torch\..*ReLU'; supported are"),
        ({"activation_function": ["Tanh"]}, "asks for activation"),
        ({"out_features": 0}, "out_features must be a width"),
        ({"out_features": "24"}, "out_features must be a width"),
        ({"bias": None}, "bias true or false, not 24 and None"),
        ({"use_residual": True}, "asks for use_residual True, which is not supported"),
        ({"module_input_name": "token_embeddings"}, "asks for module_input_name 'token_embeddings'"),
        ({"out_features": 23}, r"2_Dense/model\.safetensors has a weight \(24, 32\).*expected are \(23, 32\)"),
        ({"bias": False}, r"model\.safetensors has a bias, but the config\.json beside it says that there is none"),
    ],
)
def test_settings_that_are_not_served_are_named(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    configure(save_m3e(tmp_path, dense=24), **settings)
    with pytest.raises(InvalidModel, match=message):
        M3Encoder(tmp_path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda stored: stored.pop("linear.weight"), "cannot be loaded: 'linear.weight'"),
        (lambda stored: stored.pop("linear.bias"), "cannot be loaded: 'linear.bias'"),
        (lambda stored: stored.update({"linear.weight": torch.zeros(24, 31)}), r"has a weight \(24, 31\)"),
        (lambda stored: stored.update({"linear.bias": torch.zeros(1)}), r"and a bias \(1,\)"),
        (
            lambda stored: stored["linear.weight"].__setitem__((0, 0), float("nan")),
            r"infinite values in linear\.weight",
        ),
        (lambda stored: stored["linear.bias"].__setitem__(0, float("inf")), r"infinite values in linear\.bias"),
    ],
)
def test_damaged_weights_of_it_are_named(tmp_path: Path, how: Callable[..., object], message: str) -> None:
    change(save_m3e(tmp_path, dense=24), how)
    with pytest.raises(InvalidModel, match=r"2_Dense.model\.safetensors .*" + message):
        M3Encoder(tmp_path)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    (save_m3e(tmp_path, dense=24) / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(InvalidModel, match=r"2_Dense has no weights, model\.safetensors or pytorch_model\.bin"):
        M3Encoder(tmp_path)


class Payload:
    def __reduce__(self) -> tuple:
        return (open, ("executed", "w"))


def test_pickled_code_in_it_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = save_m3e(tmp_path / "model", dense=24) / "2_Dense"
    (folder / "model.safetensors").unlink()
    warnings.filterwarnings("ignore", "Detected pickle protocol")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"linear.weight": Payload()}))
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        M3Encoder(tmp_path / "model")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (3, r"m3\.json: projection must be the folder of a Dense module, not 3"),
        ("", r"m3\.json: projection must be the folder"),
        ("Dense", r"Dense is no Dense module: it has no config\.json"),
    ],
)
def test_a_folder_that_m3_json_names_wrongly(tmp_path: Path, named: object, message: str) -> None:
    save_own(tmp_path, dense=24)
    write_json(tmp_path / "m3.json", {"pooling": "cls", "projection": named})
    with pytest.raises(InvalidModel, match=message):
        M3Encoder(tmp_path)


@pytest.mark.parametrize(
    "kinds",
    [
        ["Transformer", "Dense", "Pooling"],
        ["Transformer", "Pooling", "Dense", "Dense"],
        ["Transformer", "Pooling", "Normalize", "Dense"],
    ],
)
def test_it_has_one_place(tmp_path: Path, kinds: list[str]) -> None:
    save_m3e(tmp_path, dense=24)
    folders = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense", "Normalize": "3_Normalize"}
    write_json(tmp_path / "modules.json", [{"path": folders[kind], "type": f"x.{kind}"} for kind in kinds])
    with pytest.raises(InvalidModel, match="has a module Dense elsewhere than once, right behind Pooling"):
        M3Encoder(tmp_path)
