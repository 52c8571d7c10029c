"""The attention kernels: all give the same, within bounded memory, and the right one is chosen."""

import inspect
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import ZH_EN, save_m3
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention

from m3core import InvalidInput, M3Encoder
from m3core.backbones import kernels
from m3core.backbones.kernels import KERNELS, Padded, Runs, attend_with, choose_kernel
from m3core.packing import Pack

CPU, CARD = torch.device("cpu"), torch.device("cuda")
HALF = torch.bfloat16


def pack_of(lengths: list[int]) -> Pack:
    return Pack.of([np.zeros(length, np.int64) for length in lengths])


def by_loop(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cut: torch.Tensor, scale: float | None) -> torch.Tensor:
    """What a varlen kernel does, text by text."""
    parts = []
    for start, end in zip(cut[:-1].tolist(), cut[1:].tolist(), strict=True):
        rows = [x[start:end].transpose(0, 1)[None] for x in (q, k, v)]
        parts.append(scaled_dot_product_attention(*rows, scale=scale)[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops in place of the kernels that need a card, behind their real signatures."""
    signature = inspect.signature(varlen.varlen_attn)

    def varlen_attn(*args: object, **kwargs: object) -> torch.Tensor:
        given = signature.bind(*args, **kwargs).arguments
        cut = given["cu_seq_q"]
        assert cut.dtype == torch.int32
        assert cut is given["cu_seq_k"]
        assert given["max_q"] == given["max_k"] == int(cut.diff().max())
        return by_loop(given["query"], given["key"], given["value"], cut, given["scale"])

    def flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        max_seqlen_q,
        max_seqlen_k,
        dropout_p=0.0,
        softmax_scale=None,
        causal=False,
        window_size=(-1, -1),
        softcap=0.0,
        alibi_slopes=None,
        deterministic=False,
        return_attn_probs=False,
        block_table=None,
    ) -> torch.Tensor:
        assert cu_seqlens_q.dtype == torch.int32
        assert max_seqlen_q == max_seqlen_k == int(cu_seqlens_k.diff().max())
        return by_loop(q, k, v, cu_seqlens_q, softmax_scale)

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    package = types.ModuleType("flash_attn")
    package.flash_attn_varlen_func = flash_attn_varlen_func
    monkeypatch.setitem(sys.modules, "flash_attn", package)


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("lengths", [[5, 4, 1], [7], [3, 3, 3], [1, 300, 2, 299, 300, 40, 41, 1]])
@pytest.mark.parametrize("kernel", KERNELS)
def test_all_kernels_attend_within_each_text(kernel: str, lengths: list[int]) -> None:
    pack = pack_of(lengths)
    query, key, value = torch.randn(3, sum(lengths), 2, 8)
    expected = by_loop(query, key, value, torch.tensor([0, *np.cumsum(lengths)]), 0.3)
    torch.testing.assert_close(attend_with(kernel, pack, CPU)(query, key, value, 0.3), expected)


@pytest.mark.parametrize("kernel", ["sdpa", "padded"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)], ids=str
)
def test_gradients_are_those_of_each_text_alone(kernel: str, dtype: torch.dtype, tolerance: float) -> None:
    """In the dtype that the kernel is given, as autocast gives half precision."""
    lengths = [5, 4, 4, 1]
    exact = torch.randn(3, sum(lengths), 2, 8, dtype=torch.float64).to(dtype).double().requires_grad_()
    by_loop(*exact, torch.tensor([0, *np.cumsum(lengths)]), 0.3).square().sum().backward()
    given = exact.detach().to(dtype).requires_grad_()
    made = attend_with(kernel, pack_of(lengths), CPU)(*given, 0.3)
    made.double().square().sum().backward()
    assert made.dtype == given.grad.dtype == dtype
    torch.testing.assert_close(given.grad.double(), exact.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("stand_ins")
def test_all_kernels_give_the_same_representations(
    m3_dir: Path, tiny_m3: M3Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{text} {'me of you ' * n}" for n in range(9) for text in ZH_EN]
    expected = tiny_m3.encode_documents(texts)
    assert M3Encoder(m3_dir, device="cpu", engine="torch").attention == "sdpa"
    monkeypatch.setattr(kernels, "_hindrance", lambda *_: None)
    for kernel in ("varlen", "flash", "padded"):
        with M3Encoder(m3_dir, dtype="float32", device="cpu", attention=kernel) as encoder:
            assert encoder.attention == kernel
            output = encoder.encode_documents(texts)
        np.testing.assert_allclose(output.dense, expected.dense, atol=1e-5)
        np.testing.assert_allclose(np.concatenate(output.multivector), np.concatenate(expected.multivector), atol=1e-5)
        assert [s.indices.tolist() for s in output.sparse] == [s.indices.tolist() for s in expected.sparse]


def test_neighbours_of_one_length_are_attended_together() -> None:
    assert Runs.of(pack_of([5, 5, 4, 3])).runs == [(2, 5), (1, 4), (1, 3)]


@given(st.lists(st.one_of(st.integers(1, 40), st.integers(1, 8192)), min_size=1, max_size=60))
def test_blocks_of_similar_lengths_hold_little_padding(lengths: list[int]) -> None:
    padded = Padded.of(pack_of(lengths), CPU)
    left = sorted(lengths, reverse=True)
    for texts, longest in padded.blocks:
        block, left = left[:texts], left[texts:]
        rows = texts * longest
        assert longest == block[0]
        assert rows - sum(block) <= max(0.2 * rows, 256)
    assert not left


def test_blocks_are_few() -> None:
    """Those of a pack of chunks, of 90 queries, and of two very unequal texts."""
    rng = np.random.default_rng(0)
    chunks = np.clip(rng.lognormal(5, 0.8, 90), 3, 8192).astype(int).tolist()
    assert len(set(chunks)) > 70
    assert len(Padded.of(pack_of(chunks), CPU).blocks) <= 10
    assert len(Padded.of(pack_of(rng.integers(3, 12, 90).tolist()), CPU).blocks) <= 2
    assert Padded.of(pack_of([8192, 3, 3]), CPU).blocks == [(1, 8192), (2, 3)]


def test_queries_go_by_turns_where_a_block_has_too_many_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = pack_of([50, 49, 48])
    query, key, value = torch.randn(3, 147, 2, 8)
    whole = Padded.of(pack, CPU)(query, key, value, None)
    scores = []

    def counted(q: torch.Tensor, k: torch.Tensor, *rest: object, **named: object) -> torch.Tensor:
        scores.append(q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2])
        return scaled_dot_product_attention(q, k, *rest, **named)

    monkeypatch.setattr(kernels, "scaled_dot_product_attention", counted)
    monkeypatch.setattr(kernels, "_SCORES", 2000)
    torch.testing.assert_close(Padded.of(pack, CPU)(query, key, value, None), whole)
    assert len(scores) > 1
    assert max(scores) <= 2000


def test_the_best_kernel_is_chosen_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    capability, built = (9, 0), True
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a Turing")
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: built)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    assert choose_kernel("auto", CPU, torch.float32, 64) == "sdpa"
    assert choose_kernel("auto", torch.device("mps"), torch.float32, 64) == "padded"
    assert choose_kernel("auto", CARD, HALF, 64) == "varlen"
    assert choose_kernel("auto", CARD, torch.float32, 64) == "padded"
    assert choose_kernel("auto", CARD, HALF, 60) == "padded"
    with pytest.raises(InvalidInput, match="'varlen' computes in half precision, not in float32; pass dtype='bfloat"):
        choose_kernel("varlen", CARD, torch.float32, 64)
    with pytest.raises(InvalidInput, match="'varlen' has no heads 60 wide, as this model's; pass attention='padded'"):
        choose_kernel("varlen", CARD, HALF, 60)
    with pytest.raises(InvalidInput, match="'flash' needs the package flash-attn in a build for this torch"):
        choose_kernel("flash", CARD, HALF, 64)
    built = False
    assert choose_kernel("auto", CARD, HALF, 64) == "padded"
    with pytest.raises(InvalidInput, match="'varlen' is missing in this build of torch; pass attention='padded'"):
        choose_kernel("varlen", CARD, HALF, 64)
    monkeypatch.setitem(sys.modules, "flash_attn", types.SimpleNamespace(flash_attn_varlen_func=print))
    assert choose_kernel("auto", CARD, HALF, 64) == "flash"
    capability = (7, 5)
    assert choose_kernel("auto", CARD, HALF, 64) == "padded"
    with pytest.raises(InvalidInput, match="'flash' runs on cards from Ampere on, which a Turing is not"):
        choose_kernel("flash", CARD, HALF, 64)


def test_a_kernel_that_cannot_serve_is_refused(m3_dir: Path) -> None:
    for kernel in ("varlen", "flash"):
        with pytest.raises(InvalidInput, match=f"attention='{kernel}' runs on CUDA, not on cpu; pass device='cuda'"):
            M3Encoder(m3_dir, device="cpu", attention=kernel)
    with pytest.raises(InvalidInput, match=r"attention must be 'auto', 'varlen' or 'flash' or .*, not 'eager'"):
        M3Encoder(m3_dir, device="cpu", attention="eager")


LONG = """
import resource, sys
from m3core import M3Encoder
for kernel in ("sdpa", "padded"):
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    encoder = M3Encoder(sys.argv[1], dtype="float32", device="cpu", attention=kernel, batch_tokens=1 << 14)
    encoder.encode_documents(["a " * 500, "a " * 499])
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    scores = 4 * 8192 * 8192 * 4
    resource.setrlimit(resource.RLIMIT_AS, (used + scores // 4, -1))
    print(len(encoder.encode_documents(["a " * 8190, "a " * 7000], modes=["dense"])))
    assert encoder._model.scheduler.budget.tokens == 1 << 14, "memory ran out, and the pack was split"
"""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="the system does not say what is mapped")
def test_scores_of_long_documents_are_never_in_memory(tmp_path: Path) -> None:
    """Within a quarter of what the scores of one of them take, in a process of its own."""
    save_m3(tmp_path, positions=8194, layers=1)
    done = subprocess.run([sys.executable, "-c", LONG, tmp_path], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "2\n2\n"), done.stderr[-2000:]
