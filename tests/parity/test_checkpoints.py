"""What fine-tuning writes, as other libraries load it, and we do; and that it still writes the same."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from m3core import M3Encoder, M3Output
from m3core.errors import M3Warning
from m3core.train import FineTuner

GOLDENS = Path(__file__).parent / "goldens"
TEXTS: dict[str, str] = json.loads((GOLDENS.parent / "texts.json").read_text(encoding="utf-8"))
SOURCES = {"trained_m3": "flag_m3", "trained_m3e": "m3e"}
LIMIT, TOLERANCE = 128, 1e-5
both = pytest.mark.parametrize("name", list(SOURCES))


def complete(name: str, folder: Path) -> Path:
    """The directory with its tokenizer."""
    for path in (*GOLDENS.glob(f"{SOURCES[name]}/tokenizer*"), *GOLDENS.glob(f"{SOURCES[name]}/vocab.txt")):
        shutil.copy(path, folder)
    shutil.copytree(GOLDENS / name, folder, dirs_exist_ok=True)
    return folder


def encoded(folder: Path) -> M3Output:
    encoder = M3Encoder(folder, dtype="float32", device="cpu", engine="torch", max_length=LIMIT)
    with warnings.catch_warnings():  # texts are cut, and m3e's vocabulary lacks some languages
        warnings.simplefilter("ignore", M3Warning)
        return encoder.encode_documents(TEXTS.values())


@both
def test_dense_vectors_are_sentence_transformers(name: str, tmp_path: Path) -> None:
    expected = load_file(GOLDENS / f"{name}.safetensors")["dense"]
    np.testing.assert_allclose(encoded(complete(name, tmp_path)).dense, expected, rtol=0, atol=TOLERANCE)


def test_all_modes_are_flagembeddings(tmp_path: Path) -> None:
    expected = load_file(GOLDENS / "trained_m3.safetensors")
    found = encoded(complete("trained_m3", tmp_path))
    np.testing.assert_allclose(found.dense, expected["flag_dense"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(np.concatenate(found.multivector), expected["rows"], rtol=0, atol=TOLERANCE)
    ends = np.cumsum(expected["lengths"])[:-1]
    for own, ids, weights in zip(
        found.sparse, np.split(expected["ids"], ends), np.split(expected["weights"], ends), strict=True
    ):
        theirs = {i: w for i, w in zip(ids.tolist(), weights.tolist(), strict=True) if w > 1e-6}
        assert own.as_dict() == pytest.approx(theirs, abs=TOLERANCE)


@both
def test_the_same_files_are_written_today(name: str, tmp_path: Path) -> None:
    records = [{"query": text[:9], "pos": [text]} for text in (TEXTS["en_statement"], TEXTS["en_lowercase"])]
    source = GOLDENS / SOURCES[name]
    options = {"device": "cpu", "dtype": "float32", "show_progress": False, "projection": name == "trained_m3e"}
    made = FineTuner.from_pretrained(source, dataset=records, **options).run(
        output=tmp_path, epochs=1, max_length=LIMIT, show_progress=False
    )
    for path in (GOLDENS / name).rglob("*"):
        written = made.directory / path.relative_to(GOLDENS / name)
        assert written.exists(), written
        if path.suffix == ".json":
            assert json.loads(written.read_text("utf-8")) == json.loads(path.read_text("utf-8")), written
        if path.suffix == ".safetensors":
            shapes = [{k: v.shape for k, v in load_file(file).items()} for file in (written, path)]
            assert shapes[0] == shapes[1]
