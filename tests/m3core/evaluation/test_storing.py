import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import ZH_EN, save_m3, save_m3e, write_json

from m3core import InvalidInput, InvalidModel, M3Encoder
from m3core.evaluation import store_weights
from m3core.mini import __path__ as mini_path

WEIGHTS = (1.0, 0.25, 2.0)


def flagembedding(folder: Path) -> Path:
    return save_m3(folder, multivector_dim=16)


def sentence_transformers(folder: Path) -> Path:
    return save_m3e(folder, normalize=True)


def with_a_projection(folder: Path) -> Path:
    """Which modules.json names, and m3.json then does not."""
    return save_m3e(folder, dense=24)


def transformer_in_a_folder(folder: Path) -> Path:
    """As older versions of sentence-transformers save models."""
    save_m3e(folder)
    (folder / "0_Transformer").mkdir()
    for path in [p for p in folder.iterdir() if p.is_file() and p.name != "modules.json"]:
        path.rename(folder / "0_Transformer" / path.name)
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    modules[0]["path"] = "0_Transformer"
    write_json(folder / "modules.json", modules)
    return folder


def bge_m3s_own(folder: Path) -> Path:
    """Both: heads, and modules for sentence-transformers, which decide about pooling."""
    save_m3(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    write_json(
        folder / "modules.json",
        [{"path": path, "type": f"sentence_transformers.models.{k}"} for path, k in kinds.items()],
    )
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    return folder


def bundled(folder: Path) -> Path:
    return Path(shutil.copytree(next(iter(mini_path)), folder, dirs_exist_ok=True))


@pytest.mark.parametrize(
    "layout", [flagembedding, sentence_transformers, with_a_projection, transformer_in_a_folder, bge_m3s_own, bundled]
)
def test_nothing_but_the_weights_changes(layout: object, tmp_path: Path) -> None:
    folder = layout(tmp_path / "model")
    before = M3Encoder(folder, dtype="float32", device="cpu")
    assert store_weights(folder, WEIGHTS) == folder / "m3.json"
    after = M3Encoder(folder, dtype="float32", device="cpu")
    assert after.score_weights == WEIGHTS != before.score_weights
    assert after.fingerprint == before.fingerprint
    assert after.max_length == before.max_length
    assert after.modes == before.modes
    ours, theirs = (encoder.encode_documents(ZH_EN) for encoder in (after, before))
    np.testing.assert_array_equal(ours.dense, theirs.dense)
    if "sparse" in before.modes:
        assert [v.as_dict() for v in ours.sparse] == [v.as_dict() for v in theirs.sparse]
        np.testing.assert_array_equal(np.concatenate(ours.multivector), np.concatenate(theirs.multivector))
    assert not list(folder.glob(".*"))


def test_what_else_m3_json_says_stays(tmp_path: Path) -> None:
    folder = save_m3(tmp_path / "model")
    write_json(folder / "m3.json", {"pooling": "cls", "languages": ["中文"], "score_weights": [9, 9, 9]})
    store_weights(folder, WEIGHTS)
    said = json.loads((folder / "m3.json").read_text("utf-8"))
    assert said == {"pooling": "cls", "languages": ["中文"], "score_weights": [1.0, 0.25, 2.0]}


@pytest.mark.parametrize("model", ["m3-mini", "BAAI/bge-m3", "./missing"])
def test_a_model_that_is_no_directory_is_named_with_what_makes_one(model: str) -> None:
    with pytest.raises(InvalidInput, match=f"m3 download {model} --to DIR makes one"):
        store_weights(model, WEIGHTS)


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    folder = save_m3(tmp_path / "model")
    for content in ("{", "[1]"):
        (folder / "m3.json").write_text(content)
        with pytest.raises(InvalidModel, match=r"m3\.json"):
            store_weights(folder, WEIGHTS)
        assert (folder / "m3.json").read_text() == content


def test_m3_json_without_pooling_leaves_that_to_the_layout_and_decides_the_rest(tmp_path: Path) -> None:
    folder = save_m3e(tmp_path / "model")
    write_json(folder / "m3.json", {"normalize": True, "max_length": 20})
    encoder = M3Encoder(folder, dtype="float32", device="cpu")
    assert (encoder.fingerprint.pooling, encoder.fingerprint.normalize, encoder.max_length) == ("mean", True, 20)
