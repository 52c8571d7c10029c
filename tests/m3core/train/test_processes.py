"""Several processes that train together do what one does; a killed one goes on where it was."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import CHARACTERS, save_m3

SCRIPT = Path(__file__).parents[2] / "training_script.py"
WORDS = [a + b for a in CHARACTERS[:12] for b in CHARACTERS[26:38]]
PAIRS = [{"query": f"{w[0]} {w[1]}", "pos": [f"{w[1]} {w[1]} the {w[0]}"], "neg": [f"{w[1]} me"]} for w in WORDS]
SCORED = [{"sentence1": w[0], "sentence2": w, "label": i % 5} for i, w in enumerate(WORDS[:48])]


def calm(folder: Path) -> Path:
    """A tiny model without dropout, which each process would draw for itself, and with gentle heads."""
    save_m3(folder, dropout=0.0)
    torch.save({"weight": torch.randn(1, 32) / 100, "bias": torch.full((1,), 0.3)}, folder / "sparse_linear.pt")
    return folder


def command(arguments: dict[str, Any], processes: int) -> list[str]:
    runner = [sys.executable]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        runner += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port)]
    return [*runner, str(SCRIPT), json.dumps(arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def history(arguments: dict[str, Any], processes: int) -> list[dict[str, float]]:
    done = subprocess.run(command(arguments, processes), capture_output=True, text=True, env=environment(), timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    made: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])["history"]
    return made


def trained(arguments: dict[str, Any], processes: int = 1) -> list[float]:
    return [entry["loss"] for entry in history(arguments, processes) if "loss" in entry]


def arguments(model: Path, output: Path, **more: Any) -> dict[str, Any]:
    prepare = {"dataset": more.pop("dataset"), "device": "cpu", "dtype": "float32", "dev": more.pop("dev", False)}
    prepare["show_progress"] = False
    run = {"batch_size": 24, "learning_rate": 1e-3, "logging_steps": 1, "tokens_at_once": 64, "evaluations": 3}
    return {"kind": "finetune", "model": str(model), "prepare": prepare, "output": str(output), **run, **more}


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    model = calm(tmp_path / "tiny")
    taught = [pair | {"pos_scores": [2.0], "neg_scores": [1.0]} for pair in PAIRS[:48]]
    dataset = {"pairs": PAIRS, "scored": SCORED, "taught": taught}
    found = {}
    for processes in (1, 2):
        output = tmp_path / str(processes)
        found[processes] = trained(arguments(model, output, dataset=dataset, epochs=2, matryoshka=(32, 8)), processes)
    assert len(found[1]) == 2 * (6 + 2 + 2)
    assert found[2] == pytest.approx(found[1], rel=1e-4)
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("1", "2"))
    for name, values in one.items():
        if name.endswith("key.bias"):  # attention does not depend on it, so that its gradients are rounding errors
            continue
        torch.testing.assert_close(two[name], values, rtol=0, atol=2e-3, msg=name)


@pytest.mark.slow
def test_two_processes_pre_train_one_model(tmp_path: Path) -> None:
    texts = [f"{w[0]} {w[1]} the {w[1]} of {w[0]}" for w in WORDS]
    given = {
        "kind": "retromae",
        "model": str(calm(tmp_path / "tiny")),
        "prepare": {"dataset": texts[10:], "dev": texts[:10], "device": "cpu", "dtype": "float32"},
        "steps": 12,
        "learning_rate": 3e-3,
        "evaluations": 3,
    }
    losses = {}
    for processes in (1, 2):
        output = {"output": str(tmp_path / str(processes)), "batch_tokens": 400 // processes}
        made = history(given | output, processes)
        losses[processes] = [entry["eval_loss"] for entry in made if "eval_loss" in entry]
        first = next(entry["loss"] for entry in made if "loss" in entry)
        assert first == pytest.approx(losses[processes][0], rel=0.2)  # a mean over processes, not a sum
    assert len(losses[1]) == len(losses[2]) == 4
    assert losses[2][0] == pytest.approx(losses[1][0], rel=1e-5)  # of the same model, on one batch with the same masks
    assert losses[2][-1] < losses[2][0] - 0.3
    assert losses[2][-1] == pytest.approx(losses[1][-1], rel=0.1)  # they drew other texts and masks


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    model = save_m3(tmp_path / "tiny")  # with dropout
    options = {"dataset": PAIRS, "dev": PAIRS[:20], "epochs": 8, "evaluations": 8, "early_stopping": None}
    whole = trained(arguments(model, tmp_path / "whole", **options))
    broken = arguments(model, tmp_path / "broken", **options) | {"resume": True}
    for kill in (1, 3, 6):
        process = subprocess.Popen(
            command(broken, 1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
        )
        while process.poll() is None and checkpoints(tmp_path / "broken") < kill:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    again = trained(broken)
    assert len(again) == len(whole)
    assert again == pytest.approx(whole, abs=1e-4)


def checkpoints(output: Path) -> int:
    """How often it was saved, by the last one's number of 6 steps each."""
    found = (output / "checkpoints").glob("checkpoint-*")
    return max((int(path.name.rpartition("-")[2]) // 6 for path in found), default=0)
