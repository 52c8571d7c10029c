import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModel

from m3core import M3Encoder, OutOfMemory
from m3core.backbones import attention
from m3core.backbones.attention import Segments, packed_attention
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


def test_neighbours_of_one_length_are_attended_together() -> None:
    pack = Pack(np.zeros(17, np.int64), np.array([5, 5, 4, 3]))
    segments = Segments.of(pack, torch.device("cpu"), torch.float32, 8)
    assert segments.runs == [(0, 2, 5), (10, 1, 4), (14, 1, 3)]
    assert segments.offsets is None


def test_the_varlen_kernel_gets_what_its_signature_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel itself runs on CUDA only; here a loop stands in for it, behind its real signature."""
    signature = inspect.signature(varlen.varlen_attn)

    def by_loop(*args: object, **kwargs: object) -> torch.Tensor:
        given = signature.bind(*args, **kwargs).arguments
        q, k, v, cut = (given[name] for name in ("query", "key", "value", "cu_seq_q"))
        assert cut.dtype == torch.int32
        assert cut is given["cu_seq_k"]
        assert given["max_q"] == given["max_k"] == int(cut.diff().max())
        parts = []
        for start, end in zip(cut[:-1].tolist(), cut[1:].tolist(), strict=True):
            rows = [x[start:end].transpose(0, 1)[None] for x in (q, k, v)]
            parts.append(scaled_dot_product_attention(*rows, scale=given["scale"])[0].transpose(0, 1))
        return torch.cat(parts)

    pack = Pack(np.zeros(10, np.int64), np.array([5, 4, 1]))
    query, key, value = torch.randn(3, 1, 2, 10, 8)  # (1, heads, tokens, head_dim) each
    arguments = (torch.nn.Identity(), query, key, value, None)
    expected, _ = packed_attention(*arguments, segments=Segments.of(pack, query.device, query.dtype, 8), scaling=0.3)
    monkeypatch.setattr(attention, "has_varlen_kernel", lambda *_: True)
    monkeypatch.setattr(varlen, "varlen_attn", by_loop)
    segments = Segments.of(pack, query.device, query.dtype, 8)
    assert segments.offsets.tolist() == [0, 5, 9, 10]
    torch.testing.assert_close(packed_attention(*arguments, segments=segments, scaling=0.3)[0], expected)


def test_lack_of_memory_has_one_name_and_other_errors_keep_theirs() -> None:
    with pytest.raises(OutOfMemory), out_of_memory_named():
        torch.empty(1 << 50)
    with pytest.raises(RuntimeError, match="size of tensor"), out_of_memory_named():
        torch.zeros(2) + torch.zeros(3)
