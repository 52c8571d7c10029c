"""RetroMAE's loss against the formulas written out text by text and row by row, and what each row may see."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import ZH_EN
from torch.nn.functional import layer_norm, linear, log_softmax

from m3core.checkpoint import Checkpoint
from m3core.packing import Pack, cut
from m3core.tokenizer import M3Tokenizer
from m3core.train.pretraining import lm_head
from m3core.train.pretraining import model as retromae
from m3core.train.pretraining.masking import MaskedPack, Masker, word_ids
from m3core.train.pretraining.model import RetroMaeModel

TEXTS = [text for text in ZH_EN if text]


def model_of(folder: Path) -> RetroMaeModel:
    torch.manual_seed(0)
    checkpoint = Checkpoint.read(folder, name="tiny", revision=None)
    model = RetroMaeModel(checkpoint, frozenset(range(4)), torch.device("cpu")).eval().double()
    with torch.no_grad():  # so that it matters what a row sees
        for parameter in [*model.decoder.parameters(), *model.lm_head.parameters()]:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def masked_of(folder: Path, texts: list[str] = TEXTS, seed: int = 0) -> MaskedPack:
    tokenizer = M3Tokenizer.from_directory(folder)
    tokenized, starts = tokenizer.located(texts, 48)
    words = [word_ids(text, own) for text, own in zip(texts, starts, strict=True)]
    assert tokenizer.mask_id is not None
    masker = Masker(tokenizer.special_ids, tokenizer.mask_id, np.arange(5, 30))
    return masker(tokenized.token_ids, words, np.random.default_rng(seed))


def reference(model: RetroMaeModel, masked: MaskedPack, pooling: str, padding: int | None) -> tuple[float, float]:
    """The two losses by plain means: one text at a time through transformers' own attention, the decoder row by row."""
    body, state = model.encoder.body, dict(model.named_parameters())
    body.set_attn_implementation("eager")
    first = 0 if padding is None else padding + 1

    def layer(name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return layer_norm(x, weight.shape, weight, state[f"{name}.bias"], body.config.layer_norm_eps)

    def gelu(x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def loss(x: torch.Tensor, label: int) -> float:
        logits = norm("lm_head.norm", gelu(layer("lm_head.dense", x))) @ table["word"].T + state["lm_head.bias"]
        return -float(log_softmax(logits, -1)[label])

    kinds = ("word", "position", "token_type")
    table = {kind: state[f"encoder.body.embeddings.{kind}_embeddings.weight"] for kind in kinds}
    losses: tuple[list[float], list[float]] = ([], [])
    lengths = masked.pack.lengths
    rows = (masked.pack.token_ids, masked.seen, masked.masked, masked.labels, masked.chosen)
    for hidden, *own in zip(masked.hidden, *(cut(row, lengths) for row in rows), strict=True):
        ids, seen, to_guess, labels, chosen = own
        states = body(input_ids=torch.tensor(seen)[None]).last_hidden_state[0]
        vector = states[0] if pooling == "cls" else states.mean(0)
        positions = table["position"][first : first + len(ids)] + table["token_type"][0]
        known = norm("encoder.body.embeddings.LayerNorm", table["word"][torch.tensor(ids)] + positions)
        queries = norm("encoder.body.embeddings.LayerNorm", vector + positions)
        known = torch.stack([vector, *known[1:]])
        for i in range(len(ids)):
            if to_guess[i]:
                losses[0].append(loss(states[i], ids[i]))
            if not labels[i]:
                continue
            sees = [j for j in range(len(ids)) if j == 0 or (j != i and not hidden[chosen[i]][j])]
            q, k, v = (
                layer(f"decoder.attention.self.{part}", x).unflatten(-1, (4, -1))
                for part, x in (("query", queries[i]), ("key", known[sees]), ("value", known[sees]))
            )
            weights = (torch.einsum("hd,khd->hk", q, k) / math.sqrt(q.shape[-1])).softmax(-1)
            x = torch.einsum("hk,khd->hd", weights, v).flatten()
            x = norm("decoder.attention.output.LayerNorm", layer("decoder.attention.output.dense", x) + queries[i])
            wide = gelu(layer("decoder.intermediate.dense", x))
            x = norm("decoder.output.LayerNorm", layer("decoder.output.dense", wide) + x)
            losses[1].append(loss(x, ids[i]))
    return float(np.mean(losses[0])), float(np.mean(losses[1]))


@pytest.mark.parametrize(("family", "pooling", "padding"), [("m3", "cls", 1), ("m3e", "mean", None)])
def test_the_loss_is_the_formulas(request: pytest.FixtureRequest, family: str, pooling: str, padding: int) -> None:
    folder = request.getfixturevalue(f"{family}_dir")
    model, masked = model_of(folder), masked_of(folder)
    with torch.no_grad():
        made = model(masked)
        encoder, decoder = reference(model, masked, pooling, padding)
    assert made.parts["encoder"].item() == pytest.approx(encoder, abs=1e-6)
    assert made.parts["decoder"].item() == pytest.approx(decoder, abs=1e-6)
    assert made.total.item() == pytest.approx(encoder + decoder, abs=2e-6)


def test_in_parts_it_is_the_same(m3_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        losses.append(model(masked).total)
        losses[-1].backward()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert not any("linear" in name for name in trained)  # the heads go along as they are
        return {name: p.grad.clone() for name, p in trained.items()}

    model, masked, losses = model_of(m3_dir), masked_of(m3_dir), []
    whole = gradients()
    monkeypatch.setattr(retromae, "_VISIBLE", 7)
    monkeypatch.setattr(lm_head, "_LOGITS", 300)
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, whole[name], msg=name)
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-12)


def guesses(model: RetroMaeModel, masked: MaskedPack) -> torch.Tensor:
    """The decoder's, of vectors that do not depend on the tokens."""
    vectors = torch.randn(len(masked.pack.lengths), 32, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        return model._decode(vectors, masked)


def test_a_row_sees_what_its_mask_leaves_and_never_its_own_token(m3_dir: Path) -> None:
    model, masked = model_of(m3_dir), masked_of(m3_dir, TEXTS[:3])
    before = guesses(model, masked)
    text = np.repeat(np.arange(3), masked.pack.lengths)
    changed_any = 0
    for token in np.flatnonzero(masked.labels):
        ids = masked.pack.token_ids.copy()
        ids[token] = 5 + (ids[token] + 1) % 20
        after = guesses(model, replace(masked, pack=Pack(ids, masked.pack.lengths)))
        changed = (after != before).any(1).numpy()
        place = token - masked.pack.starts[text[token]]
        for row in np.flatnonzero(text == text[token])[1:]:
            sees = row != token and not masked.hidden[text[row]][masked.chosen[row]][place]
            assert changed[row] == sees, (token, row)
            changed_any += sees
        assert not changed[text != text[token]].any()
    assert changed_any > 50


def test_the_decoder_learns_through_the_vector_alone_what_the_encoder_saw(m3_dir: Path) -> None:
    model, masked = model_of(m3_dir), masked_of(m3_dir)
    model(masked).parts["decoder"].backward()
    assert model.encoder.body.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0


def test_masks_of_a_pack(m3_dir: Path) -> None:
    masked = masked_of(m3_dir)
    tokenizer = M3Tokenizer.from_directory(m3_dir)
    special = np.isin(masked.pack.token_ids, list(tokenizer.special_ids))
    assert (masked.labels == ~special).all()
    assert not masked.masked[special].any()
    assert (masked.seen == masked.pack.token_ids)[~masked.masked].all()
    assert [hidden.shape for hidden in masked.hidden] == [(n, n) for n in masked.pack.lengths]
    assert (masked.chosen < np.repeat(masked.pack.lengths, masked.pack.lengths)).all()
    assert len(np.unique(masked.chosen)) > 5
    again, other = masked_of(m3_dir), masked_of(m3_dir, seed=1)
    assert (again.seen == masked.seen).all()
    assert (again.chosen == masked.chosen).all()
    assert (other.seen != masked.seen).any()


def test_a_long_text_has_256_masks_to_choose_from() -> None:
    masker = Masker(frozenset({0, 2}), 4, np.arange(5, 30))
    ids = np.concatenate([[0], np.arange(3, 403), [2]])
    masked = masker([ids, ids[-3:]], [np.arange(400), np.arange(1)], np.random.default_rng(0))
    assert [hidden.shape for hidden in masked.hidden] == [(256, 402), (3, 3)]
    assert len(np.unique(masked.chosen[:402])) > 150
    assert masked.hidden[0][:, 1:-1].mean() == pytest.approx(0.5, abs=0.02)
    assert masked.chosen[402:].max() < 3
