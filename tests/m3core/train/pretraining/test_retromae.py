"""A run of RetroMAE from texts to a model on disk: losses go down, what it writes loads, and it can be interrupted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import save_m3, unigram
from transformers import AutoModel, AutoTokenizer, BertForMaskedLM, XLMRobertaConfig, XLMRobertaForMaskedLM

from m3core import InvalidInput, InvalidModel, M3Encoder, OutOfMemory, TrainingFailed
from m3core.checkpoint import Checkpoint
from m3core.packing import cut
from m3core.train.losses import Losses
from m3core.train.pretraining.masking import MaskedPack
from m3core.train.pretraining.model import RetroMaeModel
from m3core.train.pretraining.retromae import Pretrained, RetroMAE
from m3core.train.pretraining.trainer import Pretrainer

WORDS = ["the meaning of it", "中国人说的", "one, two", "me me of the", "是不是来了"]
TEXTS = [f"{WORDS[i % 5]} {WORDS[i // 5 % 5]} {i % 10}" for i in range(150)]
DEV = [f"{WORDS[i % 5]} {i}" for i in range(20)]
QUICK = {"batch_tokens": 400, "learning_rate": 3e-3, "logging_steps": 4, "save_steps": 8, "eval_steps": 8}


def run(folder: Path, output: Path, **arguments: Any) -> Pretrained:
    given = QUICK | {"steps": 20, "show_progress": False} | arguments
    retro = RetroMAE.from_pretrained(folder, dataset=TEXTS, dev=DEV, device="cpu", dtype="float32")
    return retro.run(output=output, **given)


def held_out_loss(pretrained: Pretrained) -> float:
    """The last one measured."""
    return [entry["eval_loss"] for entry in pretrained.history if "eval_loss" in entry][-1]


@pytest.fixture(scope="module")
def dropping_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with dropout, XLM-R's default."""
    return save_m3(tmp_path_factory.mktemp("m3"))


@pytest.fixture(scope="module")
def unbroken(dropping_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    return run(dropping_out, tmp_path_factory.mktemp("unbroken"))


def test_both_losses_go_down_on_texts_that_were_held_out(unbroken: Pretrained) -> None:
    measured = [entry for entry in unbroken.history if "eval_loss" in entry]
    assert [entry["step"] for entry in measured] == [0, 8, 16, 20]
    for name in ("eval_encoder_loss", "eval_decoder_loss"):
        assert measured[-1][name] < measured[0][name] - 0.5
    for entry in measured:
        assert entry["eval_loss"] == pytest.approx(entry["eval_encoder_loss"] + entry["eval_decoder_loss"])
    logged = [entry for entry in unbroken.history if "loss" in entry]
    assert len(logged) == 5
    for entry in logged:
        assert entry["loss"] == pytest.approx(entry["encoder_loss"] + entry["decoder_loss"], abs=1e-4)


def test_what_is_written_loads_here_and_in_transformers(unbroken: Pretrained) -> None:
    made = M3Encoder(unbroken.directory, dtype="float32", device="cpu").encode_documents(DEV).dense
    model = AutoModel.from_pretrained(unbroken.directory).eval()
    tokens = AutoTokenizer.from_pretrained(unbroken.directory)(DEV, padding=True, return_tensors="pt")
    with torch.no_grad():
        vectors = model(**tokens).last_hidden_state[:, 0]
    np.testing.assert_allclose(made, torch.nn.functional.normalize(vectors, dim=-1).numpy(), atol=1e-5)


def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(
    unbroken: Pretrained, dropping_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = 0
    whole = Pretrainer.training_step

    def breaks_off(*arguments: Any, **named: Any) -> Any:
        nonlocal passes
        passes += 1
        if passes == 15:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(Pretrainer, "training_step", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        run(dropping_out, tmp_path)
    with pytest.raises(InvalidInput, match="resume=True"):
        run(dropping_out, tmp_path)
    with pytest.raises(TrainingFailed, match=r"another batch_tokens \(400, now 300\)"):
        run(dropping_out, tmp_path, resume=True, batch_tokens=300)
    resumed = run(dropping_out, tmp_path, resume=True)
    assert passes == 15 + 12  # it went on behind step 8
    assert held_out_loss(resumed) == pytest.approx(held_out_loss(unbroken), abs=1e-4)
    for name in ("model.safetensors", "retromae.safetensors"):
        expected = load_file(unbroken.directory / name)
        for key, values in load_file(resumed.directory / name).items():
            torch.testing.assert_close(values, expected[key], rtol=1e-4, atol=1e-5)


def test_more_pre_training_begins_where_the_last_ended(unbroken: Pretrained, tmp_path: Path) -> None:
    more = run(unbroken.directory, tmp_path, steps=1)
    assert more.history[0]["eval_loss"] == pytest.approx(held_out_loss(unbroken), abs=1e-4)


def test_layers_can_be_computed_twice(dropping_out: Path, tmp_path: Path) -> None:
    plain = run(dropping_out, tmp_path / "a", steps=2)
    saving = run(dropping_out, tmp_path / "b", steps=2, gradient_checkpointing=True)
    assert held_out_loss(saving) == pytest.approx(held_out_loss(plain), abs=1e-4)


def test_its_card_says_what_it_is(unbroken: Pretrained) -> None:
    card = (unbroken.directory / "README.md").read_text("utf-8")
    before, after = unbroken.held_out()
    assert f"| loss | {before['loss']:.3f} | {after['loss']:.3f} |" in card
    for said in ("pre-trained", "RetroMAE", "| texts | 150 texts |", "| steps | 20 |", "FineTuner"):
        assert said in card


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model without dropout."""
    return save_m3(tmp_path_factory.mktemp("calm"), dropout=0.0)


def test_a_batch_in_parts_is_the_same_batch(calm: Path, tmp_path: Path) -> None:
    whole, parts = (
        run(calm, tmp_path / str(tokens), steps=3, optim="sgd", tokens_at_once=tokens) for tokens in (400, 50)
    )
    assert [entry["loss"] for entry in parts.history if "loss" in entry] == pytest.approx(
        [entry["loss"] for entry in whole.history if "loss" in entry], abs=1e-5
    )
    assert held_out_loss(parts) == pytest.approx(held_out_loss(whole), abs=1e-5)


def test_it_goes_on_in_smaller_parts_where_memory_runs_out(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(calm, tmp_path / "a", steps=2)
    whole = RetroMaeModel.forward
    sizes = []

    def small(model: RetroMaeModel, masked: MaskedPack) -> Losses:
        sizes.append(len(masked.pack.token_ids))
        losses = whole(model, masked)
        if sizes[-1] > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    monkeypatch.setattr(RetroMaeModel, "forward", small)
    made = run(calm, tmp_path / "b", steps=2)
    assert sum(size > 100 for size in sizes) < 10  # it does not try again each time
    assert held_out_loss(made) == pytest.approx(held_out_loss(expected), abs=1e-4)
    with pytest.raises(OutOfMemory, match="lower max_length"):
        RetroMAE.from_pretrained(calm, dataset=["one of the " * 60], device="cpu").run(output=tmp_path / "c", steps=1)


def test_a_finished_run_is_not_gone_on_with(dropping_out: Path, tmp_path: Path) -> None:
    finished, again = (run(dropping_out, tmp_path, steps=3, resume=True) for _ in range(2))
    assert held_out_loss(again) == held_out_loss(finished)
    assert again.history[-1]["step"] == 3


def test_a_single_evaluation_is_at_the_end(dropping_out: Path, tmp_path: Path) -> None:
    retro = RetroMAE.from_pretrained(dropping_out, dataset=TEXTS, dev=DEV, device="cpu", dtype="float32")
    made = retro.run(output=tmp_path, steps=5, batch_tokens=200, evaluations=1, show_progress=False)
    assert [entry["step"] for entry in made.history if "eval_loss" in entry] == [0, 5]


def test_epochs_become_steps(dropping_out: Path, tmp_path: Path) -> None:
    tokenizer = RetroMAE.from_pretrained(dropping_out, dataset=TEXTS)._tokenizer
    tokens = sum(map(len, tokenizer.tokenize(TEXTS, 128).token_ids))
    steps = run(dropping_out, tmp_path, steps=None, epochs=2).history[-1]["step"]
    assert steps == pytest.approx(2 * tokens / 400, rel=0.1)


def test_heads_of_masked_language_models_are_taken_over(m3e_dir: Path, tmp_path: Path) -> None:
    save_m3(tmp_path / "m3", heads=False)
    config = XLMRobertaConfig.from_pretrained(tmp_path / "m3")
    torch.manual_seed(0)
    for folder, model in (
        (tmp_path / "m3", XLMRobertaForMaskedLM(config)),
        (tmp_path / "m3e", BertForMaskedLM.from_pretrained(m3e_dir)),
    ):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(tmp_path / "m3" if folder.name == "m3" else m3e_dir).save_pretrained(folder)
        retro = RetroMAE.from_pretrained(folder, dataset=TEXTS)
        assert retro.checkpoint.pooling == "cls"
        masker = retro._masker(0.3, 0.5)
        ids = retro._tokenizer.tokenize(DEV[:4], 60).token_ids
        masked = masker(ids, [np.arange(len(text) - 2) for text in ids], np.random.default_rng(0))
        with torch.no_grad():
            found = (
                RetroMaeModel(retro.checkpoint, retro._tokenizer.special_ids, torch.device("cpu"))
                .eval()(masked)
                .parts["encoder"]
                .item()
            )
            losses = []
            for seen, labels, to_guess in zip(
                *(cut(row, masked.pack.lengths) for row in (masked.seen, masked.pack.token_ids, masked.masked)),
                strict=True,
            ):
                logits = model.eval()(input_ids=torch.tensor(seen)[None]).logits[0]
                loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="none")
                losses += loss[torch.from_numpy(to_guess)].tolist()
        assert found == pytest.approx(np.mean(losses), abs=1e-4)


def test_a_model_that_says_how_to_pool_keeps_it(m3e_dir: Path) -> None:
    assert RetroMAE.from_pretrained(m3e_dir, dataset=TEXTS).checkpoint.pooling == "mean"


def test_bad_arguments_are_named(m3_dir: Path, tmp_path: Path) -> None:
    retro = RetroMAE.from_pretrained(m3_dir, dataset=TEXTS)
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        retro.run(output=tmp_path, steps=1, encoder_masked=1.5)
    for name in ("steps", "batch_tokens", "tokens_at_once", "evaluations"):
        with pytest.raises(InvalidInput, match=f"{name} must be 1 or more"):
            retro.run(output=tmp_path, **{name: 0})
    save_m3(tmp_path / "m3")
    names = {"<mask>": "<none>"}
    tokenizer = unigram().to_str().replace("<mask>", names["<mask>"])
    (tmp_path / "m3" / "tokenizer.json").write_text(tokenizer, "utf-8")
    with pytest.raises(InvalidModel, match="mask token"):
        RetroMAE.from_pretrained(tmp_path / "m3", dataset=TEXTS)


def test_files_that_are_not_of_this_model_are_refused(unbroken: Pretrained, m3_dir: Path, tmp_path: Path) -> None:
    save_m3(tmp_path, hidden=16)
    (tmp_path / "retromae.safetensors").write_bytes((unbroken.directory / "retromae.safetensors").read_bytes())
    with pytest.raises(InvalidModel, match=r"retromae\.safetensors"):
        RetroMaeModel(Checkpoint.read(tmp_path, name="tiny", revision=None), frozenset(range(4)), torch.device("cpu"))
