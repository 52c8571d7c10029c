"""`m3 train retromae`, end to end."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from m3cli.app import app
from m3core import InvalidInput, M3Encoder

ARGUMENTS = ("--steps", "6", "--batch-tokens", "300", "--learning-rate", "0.003", "--evaluations", "2")


def m3(*arguments: object) -> str:
    """Runs the command in this process; errors come through as they are."""
    result = CliRunner().invoke(app, ["train", *map(str, arguments)], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_texts_become_a_model(m3_dir: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"the meaning of it {i}"}) + "\n" for i in range(60)), "utf-8")
    (tmp_path / "dev.txt").write_text("the meaning\nof it\n", "utf-8")
    output = tmp_path / "out"
    given = (texts, "--model", m3_dir, "--dev", tmp_path / "dev.txt", "--output", output, *ARGUMENTS)
    said = m3("retromae", *given)
    assert "encoder loss" in said
    held_out = next(line for line in said.splitlines() if line.startswith("held out"))
    before, after = (float(cell) for cell in held_out.split()[2:5:2])
    assert after < before
    assert f"6 steps → {output / 'model'}" in said
    assert M3Encoder(output / "model", device="cpu").encode_documents(["the one"]).dense.shape == (1, 32)
    with pytest.raises(InvalidInput, match="resume"):
        m3("retromae", *given)
    assert "6 steps" in m3("retromae", *given, "--resume")
