from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from m3core import M3Encoder, OutOfMemory
from m3core.backbones.memory import out_of_memory_named
from m3core.packing import Pack

TEXTS = ["the one of me", "", "a <pad> b <pad>", "<pad>", "中国人 you", "the one of us"]


def pack_of(encoder: M3Encoder, texts: list[str]) -> Pack:
    ids = encoder._model.tokenizer.tokenize(texts, encoder.max_length).token_ids
    return Pack.of(ids)


@pytest.mark.parametrize("kind", ["m3_dir", "m3e_dir"])
def test_packed_hidden_states_are_those_of_transformers(kind: str, request: pytest.FixtureRequest) -> None:
    """Positions included, also where a text spells out padding."""
    folder: Path = request.getfixturevalue(kind)
    encoder = M3Encoder(folder, dtype="float32", device="cpu")
    pack = pack_of(encoder, TEXTS if kind == "m3_dir" else ["the one", "", "中 国 a"])
    packed = encoder._model.scheduler._runners[0].backbone.forward(pack, lambda: None)
    plain = AutoModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager").eval()
    for start, length in zip(pack.starts, pack.lengths, strict=True):
        ids = torch.from_numpy(pack.token_ids[start : start + length])[None]
        with torch.inference_mode():
            alone = plain(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        torch.testing.assert_close(packed[start : start + length], alone, atol=1e-5, rtol=1e-5)


def test_lack_of_memory_has_one_name_and_other_errors_keep_theirs() -> None:
    with pytest.raises(OutOfMemory), out_of_memory_named():
        torch.empty(1 << 50)
    with pytest.raises(RuntimeError, match="size of tensor"), out_of_memory_named():
        torch.zeros(2) + torch.zeros(3)
