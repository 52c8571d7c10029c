"""MCLS: a CLS token before every so many tokens, and the mean of them for dense (BGE-M3, appendix B.2)."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from counting import counted_passes
from safetensors import safe_open
from safetensors.numpy import save_file
from tiny import save_m3
from tokenizers import Tokenizer
from torch.nn.functional import linear, normalize
from transformers import XLMRobertaModel

from m3core import InvalidInput, M3Encoder, M3Output, TruncationWarning, UnsupportedMode
from m3core.lazy import LazyEncoder

N = 4
LENGTHS = [0, 3, 4, 5, 8, 9, 12, 61, 300]
SPELLED = "ab<s>cd <s> <s>ef</s>g"


def text_of(tokens: int) -> str:
    """A text of so many tokens of its own."""
    return "".join(np.random.default_rng(tokens).choice(list("abcdxyz"), max(0, tokens - 1)))


TEXTS = [*map(text_of, LENGTHS), SPELLED]


@dataclass
class Naive:
    """What a short and slow implementation makes of a text."""

    own: list[int]
    dense: np.ndarray
    weights: list[float]
    multivector: np.ndarray

    @property
    def sparse(self) -> dict[int, float]:
        best = {i: max(w for j, w in zip(self.own, self.weights, strict=True) if i == j) for i in self.own}
        return {i: w for i, w in best.items() if w > 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_m3(tmp_path_factory.mktemp("long"), positions=2050)


@pytest.fixture(scope="module")
def naive(folder: Path) -> Callable[..., Naive]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    body = XLMRobertaModel.from_pretrained(folder, add_pooling_layer=False).eval()
    sparse, multivector = (torch.load(folder / f"{name}_linear.pt") for name in ("sparse", "colbert"))

    @torch.inference_mode()
    def make(text: str, mcls: int = N, max_length: int = 2048, unit_length: bool = True) -> Naive:
        content = tokenizer.encode(text, add_special_tokens=False).ids
        ids, places = [0], [0]
        for number, token in enumerate(content):
            new = [0, token] if number and number % mcls == 0 else [token]
            if len(ids) + len(new) + 1 > max_length:
                break
            if len(new) == 2:
                places.append(len(ids))
            ids += new
        ids.append(2)
        states = body(input_ids=torch.tensor([ids])).last_hidden_state[0]
        own = [place for place in range(len(ids) - 1) if place not in places]
        dense = states[places].mean(0)
        weights = linear(states, sparse["weight"], sparse["bias"]).relu()[:, 0]
        rows = normalize(linear(states, multivector["weight"], multivector["bias"]), dim=-1)
        return Naive(
            own=[ids[place] for place in own],
            dense=(normalize(dense, dim=-1) if unit_length else dense).numpy(),
            weights=[0.0 if ids[place] < 4 else float(weights[place]) for place in own],
            multivector=rows[[*own, len(ids) - 1]].numpy(),
        )

    return make


@pytest.fixture(scope="module")
def plain(folder: Path) -> M3Encoder:
    return M3Encoder(folder, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> M3Encoder:
    return M3Encoder(folder, dtype="float32", device="cpu", mcls=N)


def assert_as_naive(output: M3Output, expected: list[Naive]) -> None:
    np.testing.assert_allclose(output.dense, [e.dense for e in expected], atol=3e-5)
    for sparse, rows, e in zip(output.sparse, output.multivector, expected, strict=True):
        assert sparse.as_dict() == pytest.approx(e.sparse, abs=3e-5)
        np.testing.assert_allclose(rows, e.multivector, atol=3e-5)


def assert_same(a: M3Output, b: M3Output) -> None:
    np.testing.assert_allclose(a.dense, b.dense, atol=3e-5)
    for x, y in zip(a.sparse, b.sparse, strict=True):
        assert x.as_dict() == pytest.approx(y.as_dict(), abs=3e-5)
    for rows, others in zip(a.multivector, b.multivector, strict=True):
        np.testing.assert_allclose(rows, others, atol=3e-5)


def test_all_modes_are_those_of_a_naive_implementation(encoder: M3Encoder, naive: Callable[..., Naive]) -> None:
    expected = [naive(text) for text in TEXTS]
    assert [len(e.own) for e in expected[:-1]] == LENGTHS
    assert expected[-1].own.count(0) == 3  # spelled out, and the text's own
    assert_as_naive(encoder.encode_documents(TEXTS), expected)
    assert_as_naive(encoder.encode_queries(TEXTS), expected)


def test_the_mean_is_not_normalized_where_nothing_is(folder: Path, naive: Callable[..., Naive]) -> None:
    raw = M3Encoder(folder, dtype="float32", device="cpu", mcls=N, normalize=False)
    assert_as_naive(raw.encode_documents(TEXTS), [naive(text, unit_length=False) for text in TEXTS])


@pytest.mark.parametrize("mcls", [1, 2, 256])
def test_any_distance(folder: Path, naive: Callable[..., Naive], mcls: int) -> None:
    encoder = M3Encoder(folder, dtype="float32", device="cpu", mcls=mcls)
    texts = [*TEXTS, *map(text_of, (255, 256, 257, 512, 513, 1000))]
    assert_as_naive(encoder.encode_documents(texts), [naive(text, mcls) for text in texts])


def test_texts_in_a_pack_are_as_alone(encoder: M3Encoder) -> None:
    together = encoder.encode_documents(TEXTS[::-1])
    assert_same(together, M3Output.concat(encoder.encode_documents([text]) for text in TEXTS[::-1]))


def test_texts_without_another_cls_are_exactly_as_before(encoder: M3Encoder, plain: M3Encoder) -> None:
    short = ["", "me", text_of(3), text_of(4)]
    ours, theirs = encoder.encode_documents(short), plain.encode_documents(short)
    assert np.array_equal(ours.dense, theirs.dense)
    assert [v.as_dict() for v in ours.sparse] == [v.as_dict() for v in theirs.sparse]
    assert all(np.array_equal(a, b) for a, b in zip(ours.multivector, theirs.multivector, strict=True))
    changed = np.abs(encoder.encode_documents([text_of(5)]).dense - plain.encode_documents([text_of(5)]).dense)
    assert changed.max() > 1e-3


@pytest.mark.parametrize("max_length", [*range(3, 15), 2047, 2048])
def test_inserted_tokens_count_towards_the_maximum_length(
    encoder: M3Encoder, naive: Callable[..., Naive], max_length: int
) -> None:
    text = text_of(3000)
    with pytest.warns(TruncationWarning, match=rf"longer than {max_length} tokens \(the longest 3751\) and were cut"):
        output = encoder.encode_documents([text], max_length=max_length)
    expected = naive(text, max_length=max_length)
    assert_as_naive(output, [expected])
    fitting = text_of(len(expected.own))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode_documents([fitting], max_length=max_length, modes=["dense"])
    with pytest.warns(TruncationWarning):
        encoder.encode_documents([text_of(len(expected.own) + 1)], max_length=max_length, modes=["dense"])


@pytest.mark.parametrize("text", TEXTS)
def test_token_weights_are_those_of_the_text_alone(
    encoder: M3Encoder, naive: Callable[..., Naive], plain: M3Encoder, text: str
) -> None:
    weighed, expected = encoder.token_weights(text), naive(text)
    assert [t.id for t in weighed] == expected.own
    assert [t.weight for t in weighed] == pytest.approx(expected.weights, abs=3e-5)
    assert encoder.tokenize(text) == plain.tokenize(text)


def test_a_cut_text_keeps_the_tokens_that_are_encoded(folder: Path, naive: Callable[..., Naive]) -> None:
    encoder = M3Encoder(folder, dtype="float32", device="cpu", mcls=N, max_length=13)
    for method in (encoder.tokenize, encoder.token_weights):
        with pytest.warns(TruncationWarning, match="1 of 1 texts were longer than 13 tokens"):
            assert [t.id for t in method(text_of(50))] == naive(text_of(50), max_length=13).own


def test_several_devices(folder: Path, encoder: M3Encoder) -> None:
    with M3Encoder(folder, device=["cpu"], dtype="float32", mcls=N) as apart:
        assert_same(apart.encode_documents(TEXTS), encoder.encode_documents(TEXTS))
        assert len(apart.token_weights(text_of(61))) == 61


@pytest.mark.parametrize("batch_tokens", [1, 7, 4096])
def test_warming_up(folder: Path, naive: Callable[..., Naive], batch_tokens: int) -> None:
    encoder = M3Encoder(folder, dtype="float32", device="cpu", mcls=N, batch_tokens=batch_tokens)
    encoder.warm_up()
    assert_as_naive(encoder.encode_documents(TEXTS), [naive(text) for text in TEXTS])


def test_the_fingerprint_and_what_is_saved_have_it(encoder: M3Encoder, plain: M3Encoder, tmp_path: Path) -> None:
    assert (encoder.fingerprint.mcls, plain.fingerprint.mcls) == (N, None)
    assert encoder.arguments["mcls"] == N
    output = encoder.encode_documents(TEXTS)
    output.save(tmp_path / "out.safetensors")
    loaded = M3Output.load(tmp_path / "out.safetensors")
    assert loaded.fingerprint == encoder.fingerprint != plain.fingerprint
    assert_same(loaded, output)
    with pytest.raises(InvalidInput, match="different fingerprint"):
        M3Output.concat([output, plain.encode_documents(TEXTS)])
    assert np.isfinite(plain.encode_queries(["me"]).score(output)).all()


def test_a_file_that_knows_nothing_of_it_is_one_without(plain: M3Encoder, tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    plain.encode_documents(["me"]).save(path)
    with safe_open(path, "np") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    known = json.loads(metadata["fingerprint"])
    assert known.pop("mcls") is None
    save_file(tensors, path, {**metadata, "fingerprint": json.dumps(known)})
    assert M3Output.load(path).fingerprint == plain.fingerprint


def test_a_cache_keeps_both_apart(folder: Path, naive: Callable[..., Naive], tmp_path: Path) -> None:
    for mcls in (None, N, N + 1, N):
        cached = M3Encoder(folder, dtype="float32", device="cpu", mcls=mcls, cache=tmp_path / "vectors.sqlite")
        assert_as_naive(cached.encode_documents(TEXTS), [naive(text, mcls or 5000) for text in TEXTS])
    with counted_passes() as passes:
        cached.encode_documents(TEXTS)
    assert passes.texts == 0


def test_components_share_the_encoder_of_the_same_distance(folder: Path) -> None:
    one, same, other = (LazyEncoder(("dense",), model=str(folder), device="cpu", mcls=n) for n in (N, N, None))
    assert one.get() is same.get() is not other.get()
    assert LazyEncoder.of(one.get()).get().fingerprint.mcls == N


def test_models_that_pool_otherwise_refuse_it(m3e_dir: Path) -> None:
    for model in ("m3-mini", m3e_dir):
        with pytest.raises(UnsupportedMode, match=r"has mean pooling.*leave mcls out, or use.*BAAI/bge-m3"):
            M3Encoder(model, mcls=256)


@pytest.mark.parametrize("mcls", [0, -1, 256.0, "256", True, 2049, [256]])
def test_what_is_no_distance_is_refused(folder: Path, mcls: object) -> None:
    with pytest.raises(InvalidInput, match="mcls must be a whole number of tokens from 1 to 2048, such as 256, not"):
        M3Encoder(folder, mcls=mcls)
