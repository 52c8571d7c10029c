"""Model directories: the layouts that load, and what is said of those that don't."""

import json
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import save_m3, save_m3e, save_own, write_json

from m3core import InvalidModel, M3Encoder, M3Warning, ModelNotFound

TEXTS = ["the one of me", "中国人"]


@pytest.fixture
def model_dir(m3_dir: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(m3_dir, tmp_path / "model"))


def dense(folder: Path) -> np.ndarray:
    return M3Encoder(folder, dtype="float32", device="cpu").encode_documents(TEXTS).dense


def test_flagembedding_layout_is_cls_pooled_with_three_modes(tiny_m3: M3Encoder) -> None:
    assert (tiny_m3.modes, tiny_m3.fingerprint.pooling) == (("dense", "sparse", "multivector"), "cls")
    assert tiny_m3.score_weights == (1.0, 0.3, 1.0)
    assert tiny_m3.max_length == 128  # positions less the two that XLM-R does not use


def test_sentence_transformers_layout_decides_pooling_and_normalize(tmp_path: Path) -> None:
    plain = M3Encoder(save_m3e(tmp_path / "plain"))
    assert (plain.fingerprint.pooling, plain.fingerprint.normalize, plain.max_length) == ("mean", False, 48)
    assert M3Encoder(save_m3e(tmp_path / "unit", normalize=True)).fingerprint.normalize


def test_modules_json_decides_over_the_head_files(model_dir: Path) -> None:
    before = dense(model_dir)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    write_json(model_dir / "modules.json", [{"path": p, "type": f"x.{kind}"} for p, kind in kinds.items()])
    write_json(model_dir / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    np.testing.assert_array_equal(dense(model_dir), before)
    write_json(model_dir / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
    encoder = M3Encoder(model_dir)
    assert (encoder.fingerprint.pooling, len(encoder.modes)) == ("mean", 3)


def test_two_poolings_at_once_are_refused(m3e_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(m3e_dir, tmp_path / "both"))
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    write_json(folder / "1_Pooling" / "config.json", flags)
    with pytest.raises(InvalidModel, match=r"asks for pooling .*supported are 'cls' and 'mean'"):
        M3Encoder(folder)


def test_prompts_that_are_not_used_are_told_of(m3e_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(m3e_dir, tmp_path / "prompts"))
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "query: "}})
    with pytest.warns(M3Warning, match="not put before texts here; pass the query's as instruction="):
        M3Encoder(folder)


def test_a_change_of_any_weight_changes_the_revision(m3_dir: Path, model_dir: Path) -> None:
    before = M3Encoder(m3_dir).fingerprint.revision
    assert M3Encoder(model_dir).fingerprint.revision == before
    damage_weights(model_dir, lambda w: w[QUERY].__setitem__((3, 3), 0.25))
    assert M3Encoder(model_dir).fingerprint.revision != before


def test_weights_of_a_deeper_model_are_refused(model_dir: Path) -> None:
    config = json.loads((model_dir / "config.json").read_text())
    write_json(model_dir / "config.json", {**config, "num_hidden_layers": 1})
    with pytest.raises(InvalidModel, match=r"weights that its config\.json knows nothing of"):
        M3Encoder(model_dir)


def test_m3_json_decides_over_everything(m3e_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(m3e_dir, tmp_path / "own"))
    write_json(folder / "m3.json", {"pooling": "cls", "normalize": True, "max_length": 20, "score_weights": [2, 0, 0]})
    encoder = M3Encoder(folder)
    assert (encoder.fingerprint.pooling, encoder.max_length, encoder.score_weights) == ("cls", 20, (2.0, 0.0, 0.0))


def test_uniem_says_mean_pooling_in_its_config(m3e_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(m3e_dir, tmp_path / "uniem"))
    (folder / "modules.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "uniem_embedding_strategy": "last_mean"})
    np.testing.assert_allclose(dense(folder), dense(m3e_dir), atol=1e-6)


def test_torch_weights_load_as_safetensors_do(model_dir: Path) -> None:
    before = dense(model_dir)
    torch.save(load_file(model_dir / "model.safetensors"), model_dir / "pytorch_model.bin")
    (model_dir / "model.safetensors").unlink()
    np.testing.assert_array_equal(dense(model_dir), before)


def test_heads_in_safetensors_load_as_torch_files_do(m3_dir: Path, tmp_path: Path) -> None:
    before = M3Encoder(m3_dir, dtype="float32", device="cpu").encode_documents(TEXTS)
    after = M3Encoder(save_own(tmp_path), dtype="float32", device="cpu").encode_documents(TEXTS)
    np.testing.assert_array_equal(after.multivector[0], before.multivector[0])
    assert after.sparse[1].as_dict() == before.sparse[1].as_dict()


def test_multivectors_may_be_narrower_than_the_model(tmp_path: Path) -> None:
    encoder = M3Encoder(save_m3(tmp_path, multivector_dim=8))
    assert encoder.encode_documents(["me"]).multivector[0].shape[1] == encoder.fingerprint.multivector_dim == 8


def test_a_model_without_heads_needs_a_word_about_pooling(tmp_path: Path) -> None:
    folder = save_m3(tmp_path, heads=False)
    with pytest.raises(InvalidModel, match=r'does not say how to pool.*Write \{"pooling": "cls"\}'):
        M3Encoder(folder)
    write_json(folder / "m3.json", {"pooling": "cls"})
    assert M3Encoder(folder).modes == ("dense",)


def test_a_missing_head_is_told_of_and_the_rest_works(model_dir: Path) -> None:
    (model_dir / "colbert_linear.pt").unlink()
    with pytest.warns(M3Warning, match=r"no colbert_linear\.pt, so it has no multivector mode"):
        encoder = M3Encoder(model_dir)
    assert encoder.modes == ("dense", "sparse")
    assert encoder.score_weights == (1.0, 0.3, 0.0)
    assert encoder.encode_documents(TEXTS).multivector is None


def test_bge_m3_without_its_heads_is_dense_only_and_says_so(tmp_path: Path) -> None:
    folder = save_m3(tmp_path, heads=False, positions=8194)
    modules = [{"path": "", "type": "models.Transformer"}, {"path": "1_Pooling", "type": "models.Pooling"}]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    with pytest.warns(M3Warning, match=r"without its heads, sparse_linear\.pt and colbert_linear\.pt: it is dense"):
        encoder = M3Encoder(folder)
    assert encoder.modes == ("dense",)


def damage_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


QUERY, WORDS = "encoder.layer.1.attention.self.query.weight", "embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    "options", [{}, *({"dtype": d, "device": "cpu", "engine": "torch"} for d in ("float32", "bfloat16"))], ids=str
)
@pytest.mark.parametrize("damaged", [QUERY, WORDS])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, name: w.pop(name), r"lacks weights that its config\.json asks for \(1: "),
        (lambda w, name: w[name].__setitem__((0, 0), float("nan")), "NaN or infinite values in "),
        (lambda w, name: w[name].__setitem__((0, 0), float("inf")), "NaN or infinite values in "),
        (lambda w, name: w.update({name: w[name][:5].clone()}), "weights of another shape .*"),
    ],
    ids=["missing", "nan", "infinite", "wrong shape"],
)
def test_damaged_weights_are_named(model_dir: Path, change, message: str, damaged: str, options: dict) -> None:
    damage_weights(model_dir, lambda weights: change(weights, damaged))
    with pytest.raises(InvalidModel, match=message + damaged):
        M3Encoder(model_dir, **options)


@pytest.mark.parametrize("prefix", ["", "roberta."])
def test_words_that_stay_in_their_file_are_the_same(model_dir: Path, prefix: str) -> None:
    """Another dtype than the file's is made of the rows of a text alone; also under a larger model's names."""
    weights = load_file(model_dir / "model.safetensors")
    options = {"dtype": "bfloat16", "device": "cpu", "engine": "torch"}
    save_file({prefix + n: w for n, w in weights.items()}, model_dir / "model.safetensors", {"format": "pt"})
    mapped = M3Encoder(model_dir, **options).encode_documents(TEXTS)
    save_file({n: w.bfloat16() for n, w in weights.items()}, model_dir / "model.safetensors", {"format": "pt"})
    held = M3Encoder(model_dir, **options).encode_documents(TEXTS)
    np.testing.assert_array_equal(mapped.dense, held.dense)
    np.testing.assert_array_equal(mapped.multivector[0], held.multivector[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_damaged_heads_are_named(model_dir: Path, dtype: str) -> None:
    torch.save({"weight": torch.full((1, 32), float("nan")), "bias": torch.zeros(1)}, model_dir / "sparse_linear.pt")
    with pytest.raises(InvalidModel, match=r"sparse_linear\.pt holds NaN"):
        M3Encoder(model_dir, dtype=dtype)
    torch.save({"weight": torch.zeros(1, 31), "bias": torch.zeros(1)}, model_dir / "sparse_linear.pt")
    with pytest.raises(InvalidModel, match=r"has a weight \(1, 31\).*expected are \(1, 32\)"):
        M3Encoder(model_dir, dtype=dtype)


class Payload:
    def __reduce__(self) -> tuple:
        return (open, ("executed", "w"))


@pytest.mark.parametrize("name", ["sparse_linear.pt", "pytorch_model.bin"])
def test_pickled_code_is_never_run(model_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(model_dir)
    warnings.filterwarnings("ignore", "Detected pickle protocol")
    if name == "pytorch_model.bin":
        (model_dir / "model.safetensors").unlink()
    (model_dir / name).write_bytes(pickle.dumps({"weight": Payload(), "bias": 0}))
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        M3Encoder(model_dir)
    assert not (model_dir / "executed").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "is no model directory: it has no config.json"),
        ("config.json", "{", "config.json is not valid JSON"),
        ("config.json", '{"model_type": "llama"}', "is of type 'llama'; supported are"),
        ("config.json", '{"model_type": "bert", "hidden_size": "wide"}', "cannot be used"),
        ("tokenizer.json", None, "has no tokenizer"),
        ("tokenizer.json", "{}", "the tokenizer in .* cannot be loaded"),
        ("model.safetensors", None, "cannot be loaded"),
        ("model.safetensors", "junk", "cannot be loaded"),
        ("config.json", "[]", "config.json holds no JSON object"),
        ("m3.json", '{"pooling": "max"}', "asks for pooling 'max'"),
        ("m3.json", "[1]", "m3.json holds no JSON object"),
        ("m3.json", '{"pooling": "cls", "normalize": "false"}', "normalize must be true or false"),
        ("m3.json", '{"pooling": "cls", "max_length": -5}', "settings that cannot be used"),
        ("m3.json", '{"pooling": "cls", "score_weights": [1, NaN, 0]}', "settings that cannot be used"),
        ("modules.json", '{"path": ""}', "no list of modules"),
        ("modules.json", '[{"type": "x.Transformer"}]', "no list of modules"),
        ("sentence_bert_config.json", '{"do_lower_case": true}', "do_lower_case, which is not supported"),
        ("m3.json", '{"pooling": "cls", "multivector_dim": 7}', r"expected are \(7, 32\)"),
        ("modules.json", '[{"path": "", "type": "x.Transformer"}]', "has no Pooling module"),
        ("modules.json", '[{"path": "", "type": "x.Transformer"}, {"path": "", "type": "x.LSTM"}]', "module LSTM"),
    ],
)
def test_an_incomplete_or_damaged_directory_is_named(
    model_dir: Path, name: str, content: str | None, message: str
) -> None:
    (model_dir / name).unlink(missing_ok=True)
    if content is not None:
        (model_dir / name).write_text(content)
    with pytest.raises(InvalidModel, match=message):
        M3Encoder(model_dir)


def test_a_vocabulary_file_serves_where_there_is_no_tokenizer_json(m3e_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(m3e_dir, tmp_path / "old"))
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), "utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    np.testing.assert_allclose(dense(folder), dense(m3e_dir), atol=1e-6)


def test_a_tokenizer_of_another_model_is_refused(m3_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(m3_dir, tmp_path / "mixed"))
    import m3core

    shutil.copy(Path(m3core.__file__).parent / "mini" / "tokenizer.json", folder / "tokenizer.json")
    with pytest.raises(InvalidModel, match="these are two models' files"):
        M3Encoder(folder)


def test_a_directory_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelNotFound, match="there is no directory"):
        M3Encoder("./no/such/model")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_in_memory_once(tmp_path: Path, dtype: str) -> None:
    """In a process of its own: the peak of anonymous memory while loading stays near the weights' size."""
    save_m3(tmp_path, hidden=512, layers=16, heads=True)
    size = (tmp_path / "model.safetensors").stat().st_size
    expected = size if dtype == "float32" else size // 2
    script = f"""
import re, threading, time
import m3core.weights, torch, transformers
from transformers import XLMRobertaModel
from m3core import M3Encoder
def anonymous():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1])
before, peak, done = anonymous(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.002)
thread = threading.Thread(target=watch); thread.start()
encoder = M3Encoder({str(tmp_path)!r}, dtype={dtype!r}, device="cpu")
done = True; thread.join()
print(max(peak, anonymous()) - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 1.35 * expected + (40 << 20)
