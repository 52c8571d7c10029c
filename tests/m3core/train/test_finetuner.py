"""Fine-tuning from two lines: what it learns, what it writes, what it refuses, and how it goes on."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import CHARACTERS, save_m3, save_m3e
from transformers import TrainerCallback

from m3core import InvalidInput, M3Encoder, M3Warning, TrainingFailed
from m3core.train import FineTuned, FineTuner
from m3core.train import running as run_module
from m3core.train.model import TrainableModel

WORDS = [a + b for a in CHARACTERS[:12] for b in CHARACTERS[26:38]]  # "a0", …
PAIRS = [{"query": f"{w[0]} {w[1]}", "pos": [f"{w[1]} {w[1]} the {w[0]}"]} for w in WORDS]
RUN: dict[str, Any] = {"batch_size": 24, "show_progress": False, "learning_rate": 1e-3, "evaluations": 3}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def m3_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with heads whose weights are not as wild as those of other tests, so that there is much to learn."""
    folder = save_m3(tmp_path_factory.mktemp("m3"))
    torch.save({"weight": torch.randn(1, 32) / 100, "bias": torch.full((1,), 0.3)}, folder / "sparse_linear.pt")
    rows = torch.nn.init.orthogonal_(torch.empty(32, 32))
    torch.save({"weight": rows, "bias": torch.zeros(32)}, folder / "colbert_linear.pt")
    return folder


def tuned(
    model: Path | str, output: Path, *, dataset: Any = PAIRS, run: dict[str, Any] | None = None, **options: Any
) -> FineTuned:
    tuner = FineTuner.from_pretrained(
        model, dataset=dataset, **{"show_progress": False, "dtype": "float32", "device": "cpu", **options}
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "training did not improve")
        return tuner.run(**{"output": output, **RUN, **(run or {})})


def losses(result: FineTuned, name: str = "loss") -> list[float]:
    return [entry[name] for entry in result.history if name in entry]


def test_all_modes_are_learned_and_measured(m3_dir: Path, tmp_path: Path) -> None:
    result = tuned(m3_dir, tmp_path, dev=PAIRS[:40], run={"epochs": 4})
    for part in ("loss", "loss_dense", "loss_sparse", "loss_multivector", "loss_ensemble", "loss_self-distillation"):
        assert len(losses(result, part)) > 5
    assert losses(result)[-1] < losses(result)[0] - 0.2
    assert set(result.after) == {"ndcg@10", *(f"{mode}_ndcg@10" for mode in ("dense", "sparse", "multivector"))}
    assert result.after["ndcg@10"] > result.before["ndcg@10"]
    assert len(losses(result, "eval_ndcg@10")) == 4
    assert result.directory == tmp_path / "model"


def test_what_is_written_is_what_was_measured(m3_dir: Path, tmp_path: Path) -> None:
    result = tuned(m3_dir, tmp_path, dev=PAIRS[:40], run={"epochs": 2, "early_stopping": None})
    from m3core.evaluation import evaluate
    from m3core.train.measuring import dev_of
    from m3core.train.records import read_examples

    encoder = M3Encoder(result.directory, dtype="float32", device="cpu")
    judged = dev_of(list(read_examples(PAIRS[:40])), "dev").judged
    report = evaluate(encoder, judged, bm25=False, metrics=["nDCG@10"])
    assert report.mean("hybrid") == pytest.approx(result.after["ndcg@10"], abs=1e-3)
    assert encoder.modes == ("dense", "sparse", "multivector")
    assert encoder.fingerprint.pooling == "cls"
    card = (result.directory / "README.md").read_text("utf-8")
    assert f"| ndcg@10 | {result.before['ndcg@10']:.3f} | {result.after['ndcg@10']:.3f} |" in card
    assert "| train | 144 |" in card


def test_a_dense_model_stays_what_it_was(m3e_dir: Path, tmp_path: Path) -> None:
    result = tuned(m3e_dir, tmp_path, run={"epochs": 1, "max_length": 16})
    encoder = M3Encoder(result.directory, device="cpu")
    assert encoder.modes == ("dense",)
    assert (encoder.fingerprint.pooling, encoder.fingerprint.normalize, encoder.max_length) == ("mean", False, 48)
    assert losses(result)[-1] < losses(result)[0]
    modules = json.loads((result.directory / "modules.json").read_text())
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling"]


def test_a_dense_model_gets_heads(m3e_dir: Path, tmp_path: Path) -> None:
    modes = ("dense", "sparse", "multivector")
    result = tuned(m3e_dir, tmp_path, modes=modes, multivector_dim=8, projection=True)
    encoder = M3Encoder(result.directory, device="cpu")
    assert encoder.modes == modes
    assert encoder.fingerprint.multivector_dim == 8
    assert encoder.fingerprint.normalize
    assert encoder.score_weights == (1.0, 0.3, 1.0)
    assert losses(result, "loss_sparse")[-1] < losses(result, "loss_sparse")[0]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("freeze", "changed"),
    [("backbone", lambda name: False), ("matrices", lambda name: "bias" in name or "LayerNorm" in name)],
)
def test_what_is_frozen_stays(m3_dir: Path, tmp_path: Path, freeze: Any, changed: Any) -> None:
    result = tuned(m3_dir, tmp_path, freeze=freeze, run={"epochs": 2})
    before, after = weights(m3_dir), weights(result.directory)
    assert before.keys() == after.keys()
    for name, values in before.items():
        moved = not torch.equal(values, after[name])
        assert moved == changed(name) or name.endswith("key.bias") or (moved is False and "position" in name), name
    heads = torch.load(m3_dir / "sparse_linear.pt", weights_only=True)
    assert not torch.equal(
        heads["weight"], torch.load(result.directory / "sparse_linear.pt", weights_only=True)["weight"]
    )
    assert losses(result)[-1] < losses(result)[0]


def heads(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "heads.safetensors")


def test_one_head_learns_from_the_ensemble_with_what_stays(m3_dir: Path, tmp_path: Path) -> None:
    first = tuned(m3_dir, tmp_path / "first", freeze="backbone", run={"epochs": 1})
    second = tuned(first.directory, tmp_path / "second", freeze=["backbone", "sparse"], run={"epochs": 2})
    before, after = heads(first.directory), heads(second.directory)
    assert torch.equal(before["sparse_linear.weight"], after["sparse_linear.weight"])
    assert not torch.equal(before["colbert_linear.weight"], after["colbert_linear.weight"])
    assert losses(second, "loss_multivector")[-1] < losses(second, "loss_multivector")[0]
    assert losses(second, "loss_ensemble")[-1] < losses(second, "loss_ensemble")[0]


def test_one_mode_is_trained_alone(m3_dir: Path, tmp_path: Path) -> None:
    result = tuned(m3_dir, tmp_path, modes=["sparse"], freeze="backbone", dev=PAIRS[:20], run={"epochs": 2})
    assert not losses(result, "loss_dense")
    assert losses(result)[-1] < losses(result)[0]
    assert set(result.after) == {"ndcg@10", *(f"{mode}_ndcg@10" for mode in ("dense", "sparse", "multivector"))}
    assert result.after["dense_ndcg@10"] == pytest.approx(result.before["dense_ndcg@10"])


def test_an_anchor_holds_weights_near_what_they_were(m3_dir: Path, tmp_path: Path) -> None:
    start = torch.load(m3_dir / "colbert_linear.pt", weights_only=True)["weight"]
    away = []
    for anchor in (0.0, 0.1, 10.0):
        run = {"epochs": 3, "anchor": anchor, "head_learning_rate": 1e-2}
        result = tuned(m3_dir, tmp_path / str(anchor), freeze="backbone", run=run)
        away.append(float((heads(result.directory)["colbert_linear.weight"] - start).norm()))
    assert away[0] > 1.2 * away[1] > 1.2 * away[2]


def test_a_new_multivector_head_keeps_what_differs_most(tmp_path: Path) -> None:
    folder = save_m3e(tmp_path / "dense")
    result = tuned(folder, tmp_path / "run", modes=["dense", "multivector"], multivector_dim=8, run={"epochs": 1e-9})
    weight = heads(result.directory)["colbert_linear.weight"]
    torch.testing.assert_close(weight @ weight.T, torch.eye(8), atol=2e-2, rtol=0)


def test_adapters_are_merged(m3_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    result = tuned(m3_dir, tmp_path, lora=True, run={"epochs": 3})
    before, after = weights(m3_dir), weights(result.directory)
    assert before.keys() == after.keys()
    query = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(before[query], after[query])
    assert torch.equal(before["embeddings.word_embeddings.weight"], after["embeddings.word_embeddings.weight"])
    assert torch.linalg.matrix_rank(after[query] - before[query], rtol=1e-3) <= 16
    assert losses(result)[-1] < losses(result)[0]


def test_scored_pairs(m3e_dir: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(CHARACTERS[:20], 4, replace=False)) for _ in range(400)]
    pairs = [
        {"sentence1": a, "sentence2": b, "label": len(set(a) & set(b))}
        for a, b in zip(texts[::2], texts[1::2], strict=True)
    ]
    result = tuned(m3e_dir, tmp_path, dataset={"train": pairs, "dev": pairs}, run={"epochs": 20, "learning_rate": 3e-3})
    assert set(result.after) == {"spearman"}
    assert result.after["spearman"] > result.before["spearman"] + 0.1


@pytest.mark.parametrize("loss", ["kl_div", "m3_kd_loss"])
def test_a_teacher(m3_dir: Path, tmp_path: Path, loss: Any) -> None:
    taught = [
        pair | {"neg": [PAIRS[i - 1]["pos"][0]], "pos_scores": [3.0], "neg_scores": [1.0]}
        for i, pair in enumerate(PAIRS)
    ]
    result = tuned(m3_dir, tmp_path, dataset=taught, run={"teacher_loss": loss, "epochs": 2})
    assert losses(result)[-1] < losses(result)[0]


def test_self_distillation_begins_when_it_shall(m3_dir: Path, tmp_path: Path) -> None:
    result = tuned(m3_dir, tmp_path, run={"epochs": 2, "self_distillation": 4, "logging_steps": 1})
    assert [("loss_self-distillation" in e) for e in result.history if "loss" in e] == [False] * 4 + [True] * 8
    off = tuned(m3_dir, tmp_path / "off", run={"epochs": 1, "self_distillation": None})
    assert not losses(off, "loss_self-distillation")


@pytest.mark.parametrize(("evaluations", "steps"), [(1, [0, 6]), (3, [0, 2, 4, 6]), (100, [0, 1, 2, 3, 4, 5, 6])])
def test_it_is_measured_as_often_as_asked(m3_dir: Path, tmp_path: Path, evaluations: int, steps: list[int]) -> None:
    run = {"epochs": 1, "evaluations": evaluations, "early_stopping": None}
    result = tuned(m3_dir, tmp_path, dev=PAIRS[:20], run=run)
    assert [entry["step"] for entry in result.history if "eval_ndcg@10" in entry] == steps


def test_several_data_sets_with_gradients_recomputed(m3_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "first.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS[:50]))
    more = [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "a", "sentence2": "c", "label": 0}] * 5
    options = {"epochs": 1, "gradient_checkpointing": True, "tokens_at_once": 40}
    result = tuned(m3_dir, tmp_path / "run", dataset={"a": path, "b": more}, run=options)
    card = (result.directory / "README.md").read_text("utf-8")
    assert "| a | 50 |" in card
    assert "| b | 10 |" in card


def test_records_are_held_out_where_there_are_enough(m3_dir: Path) -> None:
    many = [{"query": f"q {i}", "pos": [f"p {i}"]} for i in range(1000)]
    prepared = FineTuner.from_pretrained(m3_dir, dataset=many, show_progress=False).prepared
    assert (len(prepared.data), len(prepared.dev)) == (950, 50)
    trained = {prepared.data.parts[0][i].query for i in range(950)}
    assert trained.isdisjoint(prepared.dev.judged.queries.texts)
    without = FineTuner.from_pretrained(m3_dir, dataset=many, dev=False, show_progress=False).prepared
    assert (len(without.data), without.dev) == (1000, None)
    few = FineTuner.from_pretrained(m3_dir, dataset=many[:399], show_progress=False).prepared
    assert (len(few.data), few.dev) == (399, None)


class Killed(Exception):
    pass


class Kill(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._step:
            raise Killed


@pytest.mark.parametrize("step", [5, 8])
def test_a_run_goes_on_as_if_nothing_had_happened(
    m3_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    arguments: dict[str, Any] = {"dev": PAIRS[:20], "run": {"epochs": 2, "logging_steps": 1, "early_stopping": None}}
    whole = tuned(m3_dir, tmp_path / "whole", **arguments)
    callbacks = run_module._callbacks
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_callbacks", lambda *given: [*callbacks(*given), Kill(step)])
        with pytest.raises(Killed):
            tuned(m3_dir, tmp_path / "broken", **arguments)
    assert not (tmp_path / "broken" / "model").exists()
    arguments["run"]["resume"] = True
    again = tuned(m3_dir, tmp_path / "broken", **arguments)
    assert losses(again) == pytest.approx(losses(whole), abs=1e-4)
    assert again.before == pytest.approx(whole.before, abs=1e-6)
    assert again.after == pytest.approx(whole.after, abs=1e-4)
    for name, values in weights(whole.directory).items():
        torch.testing.assert_close(weights(again.directory)[name], values, atol=1e-4, rtol=0)


def test_a_torn_checkpoint_is_passed_over(m3_dir: Path, tmp_path: Path) -> None:
    run = {"epochs": 1, "evaluations": 2, "save_total_limit": 3}
    first = tuned(m3_dir, tmp_path, run=run)
    last = max((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))
    state = (last / "trainer_state.json").read_bytes()
    (last / "trainer_state.json").write_bytes(state[: len(state) // 2])
    again = tuned(m3_dir, tmp_path, run=run | {"resume": True})
    assert losses(again)[-1] == pytest.approx(losses(first)[-1], abs=1e-4)


def test_resuming_what_was_never_begun_begins_it(m3_dir: Path, tmp_path: Path) -> None:
    assert tuned(m3_dir, tmp_path, run={"epochs": 1, "resume": True}).directory.is_dir()


def test_an_earlier_run_is_not_written_over(m3_dir: Path, tmp_path: Path) -> None:
    tuned(m3_dir, tmp_path, run={"epochs": 1})
    with pytest.raises(InvalidInput, match="has checkpoints of an earlier run: pass resume=True"):
        tuned(m3_dir, tmp_path, run={"epochs": 1})
    with pytest.raises(TrainingFailed, match=r"a run with another temperature \(None, now 0\.1\): resume it as it was"):
        tuned(m3_dir, tmp_path, run={"epochs": 1, "resume": True, "temperature": 0.1})
    with pytest.raises(TrainingFailed, match=r"a run with another trained \(\['body\..*…, now "):
        tuned(m3_dir, tmp_path, freeze="matrices", run={"epochs": 1, "resume": True})
    with pytest.raises(TrainingFailed, match="a run with another data"):
        tuned(m3_dir, tmp_path, dataset=PAIRS[1:], run={"epochs": 1, "resume": True})


def test_a_run_that_does_not_improve_says_so(m3_dir: Path, tmp_path: Path) -> None:
    tuner = FineTuner.from_pretrained(m3_dir, dataset=PAIRS, dev=PAIRS[:20], device="cpu", show_progress=False)
    with pytest.warns(M3Warning, match=r"training did not improve ndcg@10 on the dev set: 0\.\d+ before, 0\.\d+ after"):
        tuner.run(output=tmp_path, epochs=1, **RUN | {"learning_rate": 1e-12, "head_learning_rate": 1e-12})


def test_divergence_is_named(m3_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="training diverged; lower the learning rate"):
        tuned(m3_dir, tmp_path, run={"learning_rate": 1e20, "max_grad_norm": 0, "warmup": 0})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"modes": []}, r"modes are some of 'dense', 'sparse' and 'multivector', not \[\]"),
        ({"modes": ["dense", "lexical"]}, r"not \['dense', 'lexical'\]"),
        ({"multivector_dim": 0, "modes": ["dense", "multivector"]}, "multivector_dim must be from 1 to 32, not 0"),
        ({"freeze": "body"}, r"freeze must be some of 'backbone', .*, not \['body'\]"),
        ({"freeze": "backbone", "lora": True}, "leave backbone and matrices unfrozen"),
        ({"freeze": "backbone"}, "with backbone frozen there is nothing left to train"),
        ({"projection": True, "freeze": ["backbone", "dense"]}, "with backbone, dense frozen there is nothing left"),
        ({"run": {"anchor": -1}}, "anchor must be 0 or more"),
        ({"dtype": "int8"}, "dtype must be 'auto', 'float32' or 'bfloat16' for training"),
        ({"negatives": -1}, "negatives must be a whole number from 0"),
        ({"dataset": [{"query": "a", "pos": []}]}, "record 0: the query 'a' has no positive passage"),
        ({"dataset": {"train": PAIRS, "dev": [{"a": 1}]}}, "record 0: no known columns"),
        ({"run": {"epochs": 0}}, "epochs must be more than 0"),
        ({"run": {"batch_size": 0}}, "batch_size must be 1 or more"),
        ({"run": {"learning_rate": float("nan")}}, "learning_rate must be more than 0, not nan"),
        ({"run": {"warmup": 1}}, "warmup is a share"),
        ({"run": {"max_length": 200}}, "max_length must be between 3 .* and 48, not 200"),
        ({"run": {"matryoshka": (64,)}}, "matryoshka widths are from 1 to 32"),
        ({"run": {"teacher_loss": "mse"}}, "teacher_loss must be 'kl_div' or 'm3_kd_loss'"),
        ({"run": {"fp16": True}}, "fp16 is set by the arguments of run"),
        ({"run": {"remove_unused_columns": True}}, "remove_unused_columns is set by the arguments of run"),
        ({"run": {"lr": 1}}, "training arguments that cannot be used: .* 'lr'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    m3e_dir: Path, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        tuned(m3e_dir, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_memory_that_runs_out_in_the_middle_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_m3(tmp_path / "tiny", dropout=0.0)
    run = {"epochs": 1, "logging_steps": 1, "tokens_at_once": 100}
    whole = tuned(folder, tmp_path / "whole", run=run)
    forward, calls = TrainableModel.forward, iter(range(10_000))

    def fails(model: TrainableModel, pack: Any) -> Any:
        if next(calls) in (20, 60):
            raise torch.OutOfMemoryError("no more")
        return forward(model, pack)

    monkeypatch.setattr(TrainableModel, "forward", fails)
    again = tuned(folder, tmp_path / "again", run=run)
    assert next(calls) > 60
    assert losses(again) == pytest.approx(losses(whole), rel=1e-3)


def test_two_lines_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_m3e(tmp_path / "m3e-tiny")
    tuner = FineTuner.from_pretrained("./m3e-tiny", dataset=PAIRS)
    tuned = tuner.run(epochs=1)
    assert M3Encoder(tuned.directory).encode_documents(["a"]).dense.shape == (1, 32)
    shutil.rmtree(tmp_path / "finetuned-model")


def test_bfloat16_by_autocast(tmp_path: Path) -> None:
    result = tuned(save_m3(tmp_path / "model"), tmp_path / "run", dtype="bfloat16", run={"epochs": 2})
    assert losses(result)[-1] < losses(result)[0]
    assert {values.dtype for values in weights(result.directory).values()} == {torch.float32}
