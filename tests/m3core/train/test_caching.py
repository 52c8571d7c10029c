"""Gradients through a real tiny model: in parts as at once, and its representations as in inference."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import save_m3, save_own

from m3core import M3Encoder
from m3core.checkpoint import Checkpoint
from m3core.heads import lexical_vectors
from m3core.packing import Pack
from m3core.tokenizer import M3Tokenizer
from m3core.train.caching import backward, joined
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


def packs(tokenizer: M3Tokenizer, size: int) -> tuple[list[Pack], list[Pack]]:
    def parts(texts: list[str]) -> list[Pack]:
        ids = tokenizer.tokenize(texts, 128).token_ids
        return [Pack.of(ids[start : start + size]) for start in range(0, len(ids), size)]

    return parts(QUERIES), parts(PASSAGES)


def loss_of(queries: int):
    def loss(parts: Sequence[Embedded]) -> Losses:
        query, passage = joined(parts[:queries]), joined(parts[queries:])
        scores = {mode: score(query, passage) for mode, score in SCORES.items()}
        return unified(scores, Targets(torch.tensor([[0], [1], [2]])), self_distillation=True)

    return loss


def gradients(model: TrainableModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dropout", [False, True])
def test_gradients_in_parts_are_those_of_the_whole(m3_dir: Path, dropout: bool) -> None:
    model, tokenizer = trainable(m3_dir)
    model.train(dropout)
    queries, passages = packs(tokenizer, 2)
    torch.manual_seed(0)
    whole = loss_of(len(queries))([model(pack) for pack in [*queries, *passages]])
    whole.total.backward()
    expected = gradients(model)
    model.zero_grad()
    torch.manual_seed(0)
    made = backward(model, [*queries, *passages], loss_of(len(queries)))
    assert made.total.item() == pytest.approx(whole.total.item(), abs=1e-6)
    assert not made.total.requires_grad
    found = gradients(model)
    assert found.keys() == expected.keys()
    assert {"sparse_linear.weight", "colbert_linear.weight"} <= found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5, msg=name)


def test_a_batch_of_one_part_goes_through_once(m3_dir: Path) -> None:
    model, tokenizer = trainable(m3_dir)
    pack = Pack.of(tokenizer.tokenize(QUERIES + PASSAGES, 128).token_ids)
    passes: list[Pack] = []

    def embed(part: Pack) -> Embedded:
        passes.append(part)
        return model(part)

    def loss(parts: Sequence[Embedded]) -> Losses:
        (part,) = parts
        return Losses(part.dense.square().sum() * 0 + part.weights.sum(), {})

    backward(embed, [pack], loss)
    assert passes == [pack]
    assert gradients(model)["sparse_linear.weight"].any()


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
    queries, passages = packs(tokenizer, 2)
    loss_of(len(queries))([model(pack) for pack in [*queries, *passages]]).total.backward()
    expected = gradients(model)
    model.zero_grad()
    backward(model, [*queries, *passages], loss_of(len(queries)))
    assert gradients(model).keys() == expected.keys()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5, msg=name)


def test_word_embeddings_are_trained_whatever_dtype_their_file_has(tmp_path: Path) -> None:
    path = save_m3(tmp_path) / "model.safetensors"
    save_file({n: w.bfloat16() for n, w in load_file(path).items()}, path, {"format": "pt"})
    model, tokenizer = trainable(tmp_path)
    model(Pack.of(tokenizer.tokenize(QUERIES, 128).token_ids)).dense.sum().backward()
    assert gradients(model)["body.embeddings.word_embeddings.weight"].any()


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_reach_a_projection(tmp_path: Path, bias: bool) -> None:
    model, tokenizer = trainable(save_own(tmp_path, dense=24, bias=bias))
    queries, passages = packs(tokenizer, 2)
    loss_of(len(queries))([model(pack) for pack in [*queries, *passages]]).total.backward()
    found = {name: gradient for name, gradient in gradients(model).items() if name.startswith("dense_linear.")}
    assert set(found) == {"dense_linear.weight", *(["dense_linear.bias"] if bias else [])}
    assert all(gradient.any() for gradient in found.values())


def test_there_is_no_projection_where_the_model_has_none(m3_dir: Path) -> None:
    assert trainable(m3_dir)[0].dense_linear is None
