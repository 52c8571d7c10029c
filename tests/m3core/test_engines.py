"""OpenVINO beside torch, and int8 beside float32."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import ZH_EN, save_m3, save_m3e

import m3core
from m3core import InvalidInput, M3Encoder, M3Output, MissingDependency
from m3core.backbones import engines
from m3core.evaluation import evaluate, load_beir
from m3core.output import MODES

MINI = Path(m3core.__file__).parent / "mini"
TEXTS = [*ZH_EN, "ab <pad> c", "中国人 you " * 12, *(f"the {'a' * n} one" for n in range(30))]


@pytest.fixture(scope="module")
def exact() -> M3Encoder:
    return M3Encoder("m3-mini", dtype="float32", device="cpu", engine="torch")


@pytest.fixture(scope="module")
def int8() -> M3Encoder:
    return M3Encoder("m3-mini", dtype="int8", device="cpu")


def both(folder: Path | str, **arguments: object) -> tuple[M3Encoder, M3Encoder]:
    return tuple(M3Encoder(folder, dtype="float32", device="cpu", engine=e, **arguments) for e in ("torch", "openvino"))


def assert_close(one: M3Output, other: M3Output, atol: float) -> None:
    np.testing.assert_allclose(one.dense, other.dense, atol=atol)
    for a, b in zip(one.sparse or [], other.sparse or [], strict=True):
        assert a.as_dict() == pytest.approx(b.as_dict(), abs=atol)
    for a, b in zip(one.multivector or [], other.multivector or [], strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


@pytest.mark.parametrize("mcls", [None, 4])
def test_engines_agree_on_a_model_of_all_modes(m3_dir: Path, mcls: int | None) -> None:
    """Also where a text spells out padding, in many pieces, and one by one."""
    torch, openvino = both(m3_dir, mcls=mcls)
    expected = torch.encode_documents(TEXTS)
    assert_close(openvino.encode_documents(TEXTS), expected, 5e-5)
    assert_close(M3Output.concat([openvino.encode_documents([text]) for text in TEXTS]), expected, 5e-5)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_engines_agree_on_a_mean_pooled_bert(tmp_path: Path, activation: str) -> None:
    configure(save_m3e(tmp_path), hidden_act=activation)
    torch, openvino = both(tmp_path)
    texts = ["the one", "", "中国 a", "一 的 了 " * 9]
    assert_close(openvino.encode_documents(texts), torch.encode_documents(texts), 5e-5)


def test_texts_longer_than_a_piece_agree(tmp_path: Path) -> None:
    torch, openvino = both(save_m3(tmp_path, positions=1200))
    texts = ["ab " * n for n in (390, 90, 80, 2, 1)]
    assert_close(openvino.encode_documents(texts), torch.encode_documents(texts), 5e-5)


def configure(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_cpu_takes_openvino_where_it_is_installed(m3_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert M3Encoder(m3_dir, device="cpu").engine == "openvino"
    assert M3Encoder(m3_dir, device="cpu", attention="sdpa").engine == "torch"
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert M3Encoder(m3_dir, device="cpu").engine == "torch"
    with pytest.raises(MissingDependency, match=r"m3-retrieval\[openvino\]"):
        M3Encoder(m3_dir, device="cpu", engine="openvino")
    with pytest.raises(InvalidInput, match=r"int8.*m3-retrieval\[openvino\]"):
        M3Encoder(m3_dir, device="cpu", dtype="int8")


def test_a_processor_that_nobody_measured_takes_torch(m3_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert M3Encoder(m3_dir, device="cpu").engine == "torch"


def test_a_model_that_openvino_does_not_serve_takes_torch(tmp_path: Path) -> None:
    configure(save_m3e(tmp_path), hidden_act="silu")
    assert M3Encoder(tmp_path, device="cpu").engine == "torch"
    with pytest.raises(InvalidInput, match="does not serve activation 'silu'; pass engine='torch'"):
        M3Encoder(tmp_path, device="cpu", engine="openvino")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "onnx"}, "engine must be 'auto', 'torch' or 'openvino', not 'onnx'"),
        ({"engine": "openvino", "device": "meta"}, "does not serve device meta"),
        ({"engine": "openvino", "attention": "sdpa"}, "does not serve attention='sdpa'"),
        ({"engine": "torch", "dtype": "int8"}, "dtype='int8' needs the OpenVINO engine"),
    ],
)
def test_what_does_not_go_together_is_named(m3_dir: Path, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        M3Encoder(m3_dir, **{"device": "cpu"} | arguments)


def test_int8_is_close_to_float32(
    exact: M3Encoder, int8: M3Encoder, debate_texts: list[str], debate_queries: list[str]
) -> None:
    """Dense cosine, and scores by mode, relative to what a query's best passages have."""
    assert (int8.dtype, int8.engine) == ("int8", "openvino")
    passages, queries = ([e.encode_documents(t[:100]) for e in (exact, int8)] for t in (debate_texts, debate_queries))
    for one, other in (passages, queries):
        cosines = (one.dense * other.dense).sum(1)
        assert cosines.mean() >= 0.9995
        assert (cosines < 0.999).sum() <= 1  # the model is unsteady about very few short texts, in bfloat16 too
    for mode in MODES:
        weights = tuple(float(m == mode) for m in MODES)
        expected, made = (q.score(p, weights=weights) for q, p in zip(queries, passages, strict=True))
        best = np.sort(expected, axis=1)[:, -10:].mean(1, keepdims=True)
        assert (np.abs(made - expected) / best).mean() <= 0.01, mode


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::m3core.errors.TruncationWarning")
def test_int8_finds_what_float32_finds(
    exact: M3Encoder, int8: M3Encoder, debate: Path, eval_set: Callable[[str], Path]
) -> None:
    """nDCG@10 of each mode and of all together, as the mean over judged sets."""
    folders = [debate, eval_set("docs-zh-zh"), eval_set("xquad-zh-en")]
    one, other = (
        [evaluate(e, load_beir(folder), bm25=False, metrics=["nDCG@10"]) for folder in folders] for e in (exact, int8)
    )
    for system in one[0].systems:
        expected, made = (np.mean([report.mean(system) for report in reports]) for reports in (one, other))
        assert made == pytest.approx(expected, abs=0.005), system


def test_int8_weights_from_their_file_need_no_transformers(m3_dir: Path, tmp_path: Path) -> None:
    """Which takes longer to import than they take to load."""
    folder = tmp_path / "model"
    shutil.copytree(m3_dir, folder)
    M3Encoder(folder, device="cpu", dtype="int8")
    code = (
        "import sys; from m3core import M3Encoder; "
        f"M3Encoder({str(folder)!r}, device='cpu', dtype='int8').encode_queries(['a']); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "openvino" in loaded.split()
    assert "transformers" not in loaded.split()


def test_int8_weights_are_kept_beside_the_model(m3_dir: Path, tmp_path: Path) -> None:
    """And made anew where they are damaged, or of other weights."""
    folder = tmp_path / "model"
    shutil.copytree(m3_dir, folder)
    kept = folder / "int8.safetensors"
    first = M3Encoder(folder, device="cpu", dtype="int8")
    written = kept.stat().st_mtime_ns
    again = M3Encoder(folder, device="cpu", dtype="int8")
    assert again.fingerprint == first.fingerprint
    assert kept.stat().st_mtime_ns == written
    expected = first.encode_documents(TEXTS)
    assert_close(again.encode_documents(TEXTS), expected, 0)

    kept.write_bytes(kept.read_bytes()[:-100])
    assert_close(M3Encoder(folder, device="cpu", dtype="int8").encode_documents(TEXTS), expected, 0)
    assert kept.stat().st_mtime_ns != written

    save_m3(folder, seed=7)
    changed = M3Encoder(folder, device="cpu", dtype="int8").encode_documents(TEXTS)
    assert np.abs(changed.dense - expected.dense).max() > 0.1
    assert sorted(p.name for p in folder.iterdir()) == sorted({*(p.name for p in m3_dir.iterdir()), kept.name})


def test_nothing_is_written_into_the_package(int8: M3Encoder) -> None:
    assert not (MINI / "int8.safetensors").exists()


def test_int8_needs_no_room_for_its_weights(m3_dir: Path, tmp_path: Path) -> None:
    """Where they cannot be written, each start makes them."""
    folder = tmp_path / "model"
    shutil.copytree(m3_dir, folder)
    (folder / "int8.safetensors").mkdir()  # which no file can take the place of
    expected = M3Encoder(m3_dir, device="cpu", dtype="float32").encode_documents(TEXTS)
    made = M3Encoder(folder, device="cpu", dtype="int8").encode_documents(TEXTS)
    assert (made.dense * expected.dense).sum(1).min() > 0.99
