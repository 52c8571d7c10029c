"""FlagEmbedding's own losses and gradients, through the same tiny model on the same batch."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from m3core.checkpoint import Checkpoint
from m3core.packing import Pack
from m3core.tokenizer import M3Tokenizer
from m3core.train.losses import Targets, unified
from m3core.train.model import TrainableModel
from m3core.train.scores import SCORES

HERE = Path(__file__).parent
TEXTS = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
GOLDEN: dict[str, Any] = json.loads((HERE / "goldens" / "training.json").read_text(encoding="utf-8"))
OWN = torch.tensor([[0, 1], [2, 3], [4, 5]])
ONLY_OWN = torch.zeros(3, 6, dtype=torch.bool).scatter(1, OWN, True)


@pytest.mark.parametrize("name", GOLDEN["losses"])
def test_losses_and_gradients_are_flagembeddings(name: str) -> None:
    folder = HERE / "goldens" / "flag_m3"
    tokenizer = M3Tokenizer.from_directory(folder, None)
    model = TrainableModel(
        Checkpoint.read(folder, name="flag", revision=None), tokenizer.special_ids, torch.device("cpu")
    ).eval()  # without dropout

    def pack(what: str) -> Pack:
        return Pack.of(tokenizer.tokenize([TEXTS[n] for n in GOLDEN[what]], GOLDEN["tokens"][what]).token_ids)

    queries, passages = model(pack("queries")), model(pack("passages"))
    modes = ["dense"] if name.startswith("dense") else list(SCORES)
    targets = Targets(
        OWN,
        ONLY_OWN if "own passages only" in name else None,
        torch.tensor(GOLDEN["teacher"]) if "teacher" in name else None,
        in_turn="in turn" in name,
    )
    scores = {mode: SCORES[mode](queries, passages) for mode in modes}
    losses = unified(scores, targets, self_distillation="self-distillation" in name)
    assert losses.total.item() == pytest.approx(GOLDEN["losses"][name], rel=1e-5)
    losses.total.backward()
    found = {n.replace("body.", "model.", 1): p.grad for n, p in model.named_parameters() if p.grad is not None}
    expected = {
        key.removeprefix(f"{name}/"): values
        for key, values in load_file(HERE / "goldens" / "training.safetensors").items()
        if key.startswith(f"{name}/")
    }
    assert expected
    for parameter, values in expected.items():
        torch.testing.assert_close(found[parameter], values, rtol=1e-3, atol=2e-4, msg=parameter)
