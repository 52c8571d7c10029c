import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from m3cli.app import app
from m3cli.plan import count
from m3core import InvalidInput
from m3stores import QdrantSettings


def m3_plan(*arguments: object, columns: int = 80) -> str:
    """Runs the command in this process; errors come through as they are."""
    words = ["plan", *map(str, arguments)]
    result = CliRunner().invoke(app, words, env={"COLUMNS": str(columns)}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_what_a_hundred_million_passages_take() -> None:
    out = m3_plan("--passages", "100M", "--tokens", 200, "--modes", "dense, sparse", "--replicas", 2, "--gpus", 8)
    assert re.search(r"^  dense vectors +410 GB  100M × 1,024 × 4 B *$", out, re.M)
    assert re.search(r"^  encoding, GPU-hours +[\d.]+ hours  20,000M tokens ÷ .* assumed *$", out, re.M)
    assert "multi-vectors" not in out
    assert "warnings" not in out
    code = re.search(r"^  (QdrantSettings\(.*\))$", out, re.M)[1]
    settings = eval(code, {"QdrantSettings": QdrantSettings})
    assert (settings.quantization, settings.on_disk, settings.replicas) == ("turbo4", True, 2)
    assert max(map(len, out.replace(code, "").splitlines())) <= 80


def test_all_modes_of_the_model_and_what_is_wrong_with_that() -> None:
    out = m3_plan("--passages", "1b", columns=200)
    assert re.search(r"multi-vectors, float16 +410 TB  1,000M × 200 × 1,024 × 2 B", out)
    assert "Multi-vectors take 410 TB of a copy's" in out[out.index("warnings") :]


def test_options_reach_the_plan() -> None:
    options = ["--model", "mine", "--dim", 512, "--multivector-dim", 64, "--nonzeros", 50, "--quantization", "int8"]
    options += ["--multivector-type", "turbo4", "--on-disk", "--node-memory", 1, "--tokens-per-second", 1000]
    out = m3_plan("--passages", "2M", *options, columns=200)
    for line in (
        "2M × 512 × 4 B",
        "2M × 512 × 1 B",
        "2M × 50 × 7.1 B",
        "2M × 200 × 64 × 0.5 B",
        "0.8 × 1 GB",
        "400M tokens ÷ 1,000 ÷ 3600",
        'quantization="int8", multivector_type="turbo4", on_disk=True',
    ):
        assert line in out
    assert "copies" not in m3_plan("--passages", "100M", "--quantization", "none", "--in-memory", columns=200)


def test_json(tmp_path: Path) -> None:
    made = json.loads(m3_plan("--passages", "5k", "--model", "m3-mini", "--json", "-"))
    assert made["disk"][0] == {
        "name": "dense vectors",
        "value": 5000 * 384 * 4,
        "unit": "B",
        "formula": "5,000 × 384 × 4 B",
        "basis": "exact",
    }
    assert made["settings"]["quantization"] is None
    out = m3_plan("--passages", "5k", "--model", "m3-mini", "--json", tmp_path / "plan.json")
    assert "dense vectors" in out
    assert json.loads((tmp_path / "plan.json").read_text("utf-8")) == made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100M", 10**8),
        ("1.5k", 1500),
        ("2B", 2 * 10**9),
        ("100_000_000", 10**8),
        ("1,000", 1000),
        ("7", 7),
        ("3m", 3e6),
    ],
)
def test_counts(text: str, value: int) -> None:
    assert count(text) == value


@pytest.mark.parametrize("text", ["", "many", "1.5", "0", "-3", "1.0005k", "1e6", "5G", "٣M", "1.5.2M"])
def test_no_counts(text: str) -> None:
    with pytest.raises(InvalidInput, match="a whole number such as 100M"):
        count(text)


def test_it_needs_neither_a_model_nor_an_engine() -> None:
    code = (
        "import sys; from m3stores.pipeline import plan; plan(1000);"
        "print({'torch', 'transformers', 'qdrant_client', 'qdrant_edge'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
