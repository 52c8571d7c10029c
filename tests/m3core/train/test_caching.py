"""Gradients through a real tiny model: in parts as at once, and its representations as in inference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import save_m3, save_own

from m3core import M3Encoder, OutOfMemory
from m3core.checkpoint import Checkpoint
from m3core.heads import lexical_vectors
from m3core.packing import IntArray, Pack, TokenBudget
from m3core.tokenizer import M3Tokenizer
from m3core.train.caching import backward, joined, packs_of
from m3core.train.losses import Losses, Targets, unified
from m3core.train.model import TrainableModel
from m3core.train.scores import SCORES, Embedded

QUERIES = ["the one", "中国 a", "me me of it"]
PASSAGES = [
    "the meaning of the one",
    "中国人说的 a",
    "me of it, me",
    "是不是来了？",
    "one, two! 3 4 5 到",
    "you 你 me 我",
]


def trainable(folder: Path) -> tuple[TrainableModel, M3Tokenizer]:
    tokenizer = M3Tokenizer.from_directory(folder, None)
    checkpoint = Checkpoint.read(folder, name="tiny", revision=None)
    return TrainableModel(checkpoint, tokenizer.special_ids, torch.device("cpu")), tokenizer


def groups(tokenizer: M3Tokenizer) -> list[list[IntArray]]:
    return [tokenizer.tokenize(texts, 128).token_ids for texts in (QUERIES, PASSAGES)]


def loss(queries: Embedded, passages: Embedded) -> Losses:
    scores = {mode: score(queries, passages) for mode, score in SCORES.items()}
    return unified(scores, Targets(torch.tensor([[0], [1], [2]])), self_distillation=True)


def whole_loss(model: TrainableModel, texts: list[list[IntArray]], tokens: int) -> Losses:
    """Without any caching."""
    return loss(*(joined([model(pack) for pack in packs_of(group, tokens)]) for group in texts))


def gradients(model: TrainableModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("tokens", [1, 20])
def test_gradients_in_parts_are_those_of_the_whole(m3_dir: Path, dropout: bool, tokens: int) -> None:
    model, tokenizer = trainable(m3_dir)
    model.train(dropout)
    texts = groups(tokenizer)
    torch.manual_seed(0)
    whole = whole_loss(model, texts, tokens)
    whole.total.backward()
    expected = gradients(model)
    model.zero_grad()
    torch.manual_seed(0)
    made = backward(model, texts, loss, TokenBudget(tokens))
    assert made.total.item() == pytest.approx(whole.total.item(), abs=1e-6)
    assert not made.total.requires_grad
    assert {"sparse_linear.weight", "colbert_linear.weight"} <= gradients(model).keys()
    assert_same(gradients(model), expected)


@pytest.mark.parametrize(("tokens", "at_once", "times"), [(1000, False, 1), (20, True, 1), (20, False, 2)])
def test_what_fits_into_memory_goes_through_once(m3_dir: Path, tokens: int, at_once: bool, times: int) -> None:
    model, tokenizer = trainable(m3_dir)
    seen = passing(model)
    texts = groups(tokenizer)
    backward(model.eval(), texts, loss, TokenBudget(tokens), at_once=at_once)
    assert len(seen) == times * sum(len(packs_of(group, tokens)) for group in texts)
    found = gradients(model)
    model.zero_grad()
    whole_loss(model, texts, 1000).total.backward()
    assert_same(found, gradients(model))


@pytest.mark.parametrize(
    ("tokens", "when"),
    [(1000, "forward 0"), (1000, "forward 1"), (1000, "backward"), (20, "forward 2"), (20, "backward")],
)
def test_when_memory_runs_out_the_parts_become_smaller(m3_dir: Path, tokens: int, when: str) -> None:
    model, tokenizer = trainable(m3_dir)
    texts = groups(tokenizer)
    whole_loss(model.eval(), texts, 1000).total.backward()
    expected = gradients(model)
    model.zero_grad()
    moments = iter(range(1000))  # of forward passes

    def fail(name: str) -> None:
        if when == name:
            raise torch.OutOfMemoryError("no more")

    model.register_forward_hook(lambda *_: fail(f"forward {next(moments)}"))
    handle = model.sparse_linear.register_full_backward_hook(lambda *_: handle.remove() or fail("backward"))
    budget = TokenBudget(tokens)
    backward(model, texts, loss, budget)
    assert budget.tokens < tokens
    assert_same(gradients(model), expected)


def _raise() -> None:
    raise torch.OutOfMemoryError("no more")


def test_a_text_that_does_not_fit_is_named(m3_dir: Path) -> None:
    model, tokenizer = trainable(m3_dir)
    model.register_forward_hook(lambda *_: _raise())
    with pytest.raises(OutOfMemory, match=r"a text of \d+ tokens .* lower max_length"):
        backward(model, groups(tokenizer), loss, TokenBudget(1000))


def passing(model: torch.nn.Module) -> list[Pack]:
    """The packs that go through a model."""
    seen: list[Pack] = []
    model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    return seen


@pytest.mark.parametrize("dense", [None, 24])
def test_what_is_trained_is_what_an_encoder_makes(tmp_path: Path, dense: int | None) -> None:
    model, tokenizer = trainable(save_own(tmp_path, dense=dense))
    with torch.no_grad():
        made = model.eval()(Pack.of(tokenizer.tokenize(PASSAGES, 128).token_ids))
    expected = M3Encoder(tmp_path, dtype="float32", device="cpu", engine="torch").encode_documents(PASSAGES)
    np.testing.assert_allclose(made.dense.numpy(), expected.dense, atol=1e-5)
    np.testing.assert_allclose(made.rows.numpy(), np.concatenate(expected.multivector), atol=1e-5)
    found = lexical_vectors(made.token_ids.numpy(), made.weights.numpy(), np.array(made.lengths))
    for own, sparse in zip(found, expected.sparse, strict=True):
        assert own.as_dict() == pytest.approx(sparse.as_dict(), abs=2e-5)


def test_gradients_in_parts_reach_the_heads_of_a_frozen_body(m3_dir: Path) -> None:
    model, tokenizer = trainable(m3_dir)
    model.eval().body.requires_grad_(False)
    whole_loss(model, groups(tokenizer), 20).total.backward()
    expected = gradients(model)
    model.zero_grad()
    backward(model, groups(tokenizer), loss, TokenBudget(20))
    assert_same(gradients(model), expected)


def test_word_embeddings_are_trained_whatever_dtype_their_file_has(tmp_path: Path) -> None:
    path = save_m3(tmp_path) / "model.safetensors"
    save_file({n: w.bfloat16() for n, w in load_file(path).items()}, path, {"format": "pt"})
    model, tokenizer = trainable(tmp_path)
    model(Pack.of(tokenizer.tokenize(QUERIES, 128).token_ids)).dense.sum().backward()
    assert gradients(model)["body.embeddings.word_embeddings.weight"].any()


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_reach_a_projection(tmp_path: Path, bias: bool) -> None:
    model, tokenizer = trainable(save_own(tmp_path, dense=24, bias=bias))
    whole_loss(model, groups(tokenizer), 1000).total.backward()
    found = {name: gradient for name, gradient in gradients(model).items() if name.startswith("dense_linear.")}
    assert set(found) == {"dense_linear.weight", *(["dense_linear.bias"] if bias else [])}
    assert all(gradient.any() for gradient in found.values())


def test_there_is_no_projection_where_the_model_has_none(m3_dir: Path) -> None:
    assert trainable(m3_dir)[0].dense_linear is None
