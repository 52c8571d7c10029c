import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from counting import counted_passes, counted_ticks
from tiny import ZH_EN, save_m3

from m3core import InvalidInput, M3Encoder, M3Output, TruncationWarning, UnknownTokensWarning, UnsupportedMode


def assert_same(a: M3Output, b: M3Output, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(a.dense, b.dense, atol=atol)
    for x, y in zip(a.sparse, b.sparse, strict=True):
        assert x.indices.tolist() == y.indices.tolist()
        np.testing.assert_allclose(x.values, y.values, atol=atol)
    for x, y in zip(a.multivector, b.multivector, strict=True):
        np.testing.assert_allclose(x, y, atol=atol)


def test_outputs_have_the_documented_shapes(tiny_m3: M3Encoder) -> None:
    output = tiny_m3.encode_documents(ZH_EN)
    lengths = [len(tiny_m3.tokenize(text)) + 1 for text in ZH_EN]
    assert output.dense.shape == (len(ZH_EN), 32)
    assert output.dense.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(output.dense, axis=1), 1, atol=1e-5)
    assert [m.shape for m in output.multivector] == [(n, 32) for n in lengths]
    assert {m.dtype for m in output.multivector} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(output.multivector), axis=1), 1, atol=1e-5)


@pytest.mark.filterwarnings("ignore::m3core.errors.UnknownTokensWarning")
def test_packed_equals_one_by_one_in_any_order_and_budget(m3_dir: Path, debate_texts: list[str]) -> None:
    texts = [t[:n] for t, n in zip(debate_texts, [3, 90, 17, 60, 1, 33, 90, 5, 48, 60], strict=False)] + ZH_EN
    encoders = [M3Encoder(m3_dir, dtype="float32", device="cpu", batch_tokens=b) for b in (1, 64, 10_000)]
    alone = M3Output.concat([encoders[0].encode_documents([t]) for t in texts])
    for encoder in encoders:
        order = np.random.default_rng(0).permutation(len(texts))
        assert_same(encoder.encode_documents([texts[i] for i in order]), alone[order])


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bfloat16_packed_agrees_with_one_by_one(engine: str, debate_texts: list[str]) -> None:
    """But for rounding, no more than to float32: with AMX a CPU adds up in another order for another number of rows."""
    encoder = M3Encoder("m3-mini", dtype="bfloat16", device="cpu", engine=engine)
    texts = [t[: 5 + 13 * i] for i, t in enumerate(debate_texts[:10])] + debate_texts[24:32]
    packed = encoder.encode_documents(texts)
    alone = M3Output.concat([encoder.encode_documents([t]) for t in texts])
    cosine = (packed.dense * alone.dense).sum(1)
    rows = np.concatenate([(a * b).sum(1) for a, b in zip(packed.multivector, alone.multivector, strict=True)])
    assert cosine.min() >= 0.9999
    assert rows.min() >= 0.9998
    for a, b in zip(packed.sparse, alone.sparse, strict=True):
        x, y = a.as_dict(), b.as_dict()
        for i in x.keys() | y.keys():
            assert abs(x.get(i, 0) - y.get(i, 0)) <= 0.01 * max(x.get(i, 0), y.get(i, 0)) + 6e-3


def test_only_the_modes_asked_for_are_made(tiny_m3: M3Encoder) -> None:
    output = tiny_m3.encode_documents(["the one"], modes=["multivector", "dense"])
    assert output.modes == ("dense", "multivector")
    assert output.sparse is None


def test_one_forward_pass_gives_all_modes(tiny_m3: M3Encoder) -> None:
    with counted_passes() as passes:
        tiny_m3.encode_documents(["the one", "a", "me and you"])
    assert passes.texts == 3


def test_m3e_is_dense_only_and_says_so(m3e_dir: Path) -> None:
    encoder = M3Encoder(m3e_dir)
    assert encoder.modes == ("dense",)
    with pytest.raises(UnsupportedMode, match=f"{m3e_dir.name} has no sparse representation; it has dense"):
        encoder.encode_documents(["一"], modes=["sparse"])
    with pytest.raises(UnsupportedMode, match="no sparse"):
        encoder.token_weights("一")


def test_normalize_can_be_chosen(m3e_dir: Path, m3_dir: Path) -> None:
    raw = M3Encoder(m3e_dir).encode_documents(["the one"]).dense[0]
    unit = M3Encoder(m3e_dir, normalize=True).encode_documents(["the one"]).dense[0]
    assert np.linalg.norm(raw) != pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw), atol=1e-2)
    raw_m3 = M3Encoder(m3_dir, normalize=False).encode_documents(["a"]).dense
    assert np.linalg.norm(raw_m3) != pytest.approx(1, abs=0.01)


def test_the_instruction_goes_before_queries_only(m3_dir: Path, tiny_m3: M3Encoder) -> None:
    encoder = M3Encoder(m3_dir, dtype="float32", device="cpu", instruction="the one ")
    assert_same(encoder.encode_queries(["me"]), tiny_m3.encode_documents(["the one me"]))
    assert_same(encoder.encode_documents(["me"]), tiny_m3.encode_documents(["me"]))
    assert encoder.fingerprint != tiny_m3.fingerprint


def test_long_texts_are_cut_with_one_warning_that_counts_them(tiny_m3: M3Encoder) -> None:
    with pytest.warns(TruncationWarning, match=r"2 of 3 texts were longer than 9 tokens \(the longest 62\)") as caught:
        output = tiny_m3.encode_documents(["a" * 20, "b", "c" * 59], max_length=9)
    assert len(caught) == 1
    assert [len(m) for m in output.multivector] == [8, 3, 8]


def test_unknown_languages_are_told_of_once_a_call(mini: M3Encoder) -> None:
    russian = ["Может ли искусственный интеллект заменить учителя?"] * 3
    with pytest.warns(UnknownTokensWarning, match=r"\d\d% of the tokens .* knows Chinese and English") as caught:
        output = mini.encode_documents(russian)
    assert len(caught) == 1
    assert len(output) == 3


@pytest.mark.filterwarnings("error")
def test_known_languages_with_a_rare_character_raise_no_warning(mini: M3Encoder) -> None:
    mini.encode_documents(["人工智能会取代教师吗？这是一个值得长期认真讨论的教育问题，也是一个社会问题。ж"])


def test_a_corpus_streams_through_in_order(tiny_m3: M3Encoder) -> None:
    read = 0

    def source() -> Iterator[str]:
        nonlocal read
        for i in range(25):
            read += 1
            yield f"the one {i} of me"

    outputs = tiny_m3.iter_encode(source(), window=10)
    assert read == 0
    first = next(outputs)
    assert (read, len(first)) == (10, 10)
    whole = M3Output.concat([first, *outputs])
    assert_same(whole, tiny_m3.encode_documents([f"the one {i} of me" for i in range(25)]))


def test_a_stream_warns_once_at_its_end(tiny_m3: M3Encoder) -> None:
    with pytest.warns(TruncationWarning, match="6 of 6 texts") as caught:
        assert sum(len(o) for o in tiny_m3.iter_encode(["abcdefgh"] * 6, window=2, max_length=5)) == 6
    assert len(caught) == 1


def test_a_stream_names_the_bad_text_by_its_place(tiny_m3: M3Encoder) -> None:
    outputs = tiny_m3.iter_encode(["a", "b", "c", None], window=2)
    assert len(next(outputs)) == 2
    with pytest.raises(InvalidInput, match="text 3 is None"):
        next(outputs)


async def test_the_event_loop_stays_free_while_encoding(mini: M3Encoder, debate_texts: list[str]) -> None:
    async with counted_ticks() as ticks:
        documents, query = await asyncio.gather(
            mini.aencode_documents(debate_texts[:40]), mini.aencode_queries(["谁来监督算法？"], modes=["dense"])
        )
    assert ticks.count > 5
    assert_same(documents, mini.encode_documents(debate_texts[:40]))
    assert query.modes == ("dense",)


@pytest.mark.filterwarnings("ignore::m3core.errors.TruncationWarning")
def test_threads_with_different_lengths_get_what_one_gets(tiny_m3: M3Encoder) -> None:
    texts = ["the one of me and you " * n for n in (1, 2, 3, 4)]
    lengths = [16, 32, 64, 128]
    expected = {n: tiny_m3.encode_documents(texts, max_length=n) for n in lengths}
    with ThreadPoolExecutor(8) as pool:
        jobs = [(n, pool.submit(tiny_m3.encode_documents, texts, max_length=n)) for n in lengths * 25]
        for n, job in jobs:
            assert_same(job.result(), expected[n])


def test_token_weights_keep_every_token_apart(mini: M3Encoder) -> None:
    text = "M3 的 M3？"
    tokens = mini.token_weights(text)
    assert [t.token for t in tokens] == ["▁M", "3", "▁", "的", "▁M", "3", "?"]
    assert [text[t.start : t.end] for t in tokens] == ["M", "3", "", "的", "M", "3", "？"]
    sparse = mini.encode_documents([text]).sparse[0].as_dict()
    best = {i: max(t.weight for t in tokens if t.id == i) for i in {t.id for t in tokens}}
    assert sparse == pytest.approx({i: w for i, w in best.items() if w > 0}, rel=1e-3)


def test_tokenizing_tells_of_a_cut_as_encoding_does(tiny_m3: M3Encoder) -> None:
    for method in (tiny_m3.tokenize, tiny_m3.token_weights):
        with pytest.warns(TruncationWarning, match="1 of 1 texts") as caught:
            assert len(method("a" * 300)) == 126
        assert caught[0].filename == __file__


def test_a_text_that_spells_out_special_tokens_is_encoded(tiny_m3: M3Encoder) -> None:
    output = tiny_m3.encode_documents(["a <pad> b </s> c <s>"])
    assert set(output.sparse[0].indices.tolist()).isdisjoint({0, 1, 2, 3})
    assert np.isfinite(output.dense).all()


def test_the_fingerprint_tells_models_apart(tmp_path: Path, tiny_m3: M3Encoder, m3_dir: Path) -> None:
    again = M3Encoder(m3_dir, dtype="bfloat16", device="cpu").fingerprint
    assert again == tiny_m3.fingerprint
    other = M3Encoder(save_m3(tmp_path / m3_dir.name, seed=1)).fingerprint
    assert (other.model, other.revision == again.revision) == (again.model, False)
    assert M3Encoder(m3_dir, max_length=64).fingerprint != again


def test_a_real_lack_of_memory_lowers_the_budget_and_loses_nothing(tmp_path: Path) -> None:
    """In a process of its own, whose address space is limited after the model has loaded."""
    save_m3(tmp_path, positions=2050, hidden=256)
    script = f"""
import resource, warnings
import numpy as np
from m3core import M3Encoder, OutOfMemory
encoder = M3Encoder({str(tmp_path)!r}, dtype="float32", device="cpu", batch_tokens=1 << 20)
texts = ["the one of me " * 60] * 300
expected = encoder.encode_documents(texts[:1], modes=["dense"]).dense[0]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (120 << 20), -1))
output = encoder.encode_documents(texts, modes=["dense"])
assert encoder._model.scheduler.budget.tokens < 1 << 20, "memory never ran out"
assert np.abs(output.dense - expected).max() < 1e-5
print("survived with", encoder._model.scheduler.budget.tokens)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "survived" in done.stdout


def test_a_query_does_not_wait_for_a_long_job(m3_dir: Path) -> None:
    encoder = M3Encoder(m3_dir, dtype="float32", device="cpu", batch_tokens=64)
    done: list[str] = []
    long = ["the meaning of it and of you " * 3] * 3000

    async def both() -> None:
        job = asyncio.create_task(encoder.aencode_documents(long))
        job.add_done_callback(lambda _: done.append("documents"))
        await asyncio.sleep(0.05)
        await encoder.aencode_queries(["me"])
        done.append("query")
        await job

    asyncio.run(both())
    assert done[0] == "query"
