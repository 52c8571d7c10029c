"""More positions than a model was made for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from m3core import M3Encoder
from m3core.checkpoint import Checkpoint
from m3core.train.pretraining.model import RetroMaeModel
from m3core.train.pretraining.positions import extend_positions
from m3core.weights import load_body

SHORT = ["the meaning of it", "中国人说的 a b c d " * 3]


@pytest.mark.parametrize(("family", "padding", "old"), [("m3", 1, 128), ("m3e", None, 64)])
def test_rows_are_repeated_and_the_old_ones_kept(
    request: pytest.FixtureRequest, family: str, padding: int | None, old: int
) -> None:
    checkpoint = Checkpoint.read(request.getfixturevalue(f"{family}_dir"), name="tiny", revision=None)
    body = load_body(checkpoint, torch.float32, torch.device("cpu"))
    before = body.embeddings.position_embeddings.weight.detach().clone()
    extend_positions(body, 8192, padding)
    after = body.embeddings.position_embeddings.weight
    first = 0 if padding is None else padding + 1
    assert after.shape[0] == body.config.max_position_embeddings == first + 8192
    assert after.requires_grad
    torch.testing.assert_close(after[: first + old], before, rtol=0, atol=0)
    torch.testing.assert_close(after[first + 3 * old : first + 4 * old], before[first:], rtol=0, atol=0)
    extend_positions(body, 100, padding)  # has more
    assert len(body.embeddings.position_embeddings.weight) == first + 8192


@pytest.mark.parametrize(("family", "rows"), [("m3", 502), ("m3e", 500)])
def test_short_texts_keep_their_vectors_and_long_ones_get_some(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, rows: int
) -> None:
    folder = request.getfixturevalue(f"{family}_dir")
    checkpoint = Checkpoint.read(folder, name="tiny", revision=None)
    longer = Checkpoint(**{**vars(checkpoint), "max_length": 500})
    RetroMaeModel(longer, frozenset(range(4)), torch.device("cpu")).save(tmp_path / "long")
    old, new = (M3Encoder(path, dtype="float32", device="cpu") for path in (folder, tmp_path / "long"))
    before, after = old.encode_documents(SHORT), new.encode_documents(SHORT)
    np.testing.assert_allclose(after.dense, before.dense, atol=1e-6)
    assert new.modes == old.modes
    long = "the meaning of the one " * 20
    (whole,), (half,) = (new.encode_documents([text]).dense for text in (long, long[:230]))
    assert np.isfinite(whole).all()
    assert not np.allclose(whole, half, atol=1e-3)

    def said(name: str) -> dict[str, object]:
        return json.loads((tmp_path / "long" / name).read_text("utf-8"))

    assert said("config.json")["max_position_embeddings"] == rows
    assert said("tokenizer_config.json")["model_max_length"] == 500
    assert said("sentence_bert_config.json")["max_seq_length"] == 500
    assert said("m3.json")["max_length"] == 500
