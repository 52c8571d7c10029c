import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from judged import judged_set

from m3core import InvalidInput
from m3core.evaluation import Candidates, Report, plot

pytest.importorskip("matplotlib")
SYSTEMS = ("dense", "sparse", "multivector", "hybrid", "bm25")


def report(name: str, systems: Sequence[str] = SYSTEMS, *, queries: int = 30) -> Report:
    rng = np.random.default_rng(len(name))
    judged = judged_set({"d": ""}, {f"q{i}": "" for i in range(queries)}, {}, name=name)
    values = {system: {"nDCG@10": rng.random(queries)} for system in systems}
    return Report(judged, values, Candidates(name, [], {}, np.zeros((0, 1)), np.zeros(0)))


def drawn(path: Path) -> list[str]:
    """What an SVG says, which matplotlib keeps in comments beside the outlines of letters."""
    return re.findall(r"<!-- (.*?) -->", path.read_text("utf-8"))


def test_every_set_and_system_is_named_and_every_length(tmp_path: Path) -> None:
    reports = [report("one"), report("another-set", ("dense", "bm25"), queries=12)]
    halves = {"≤128": np.arange(30) < 10, "129–512": np.arange(30) >= 10}
    plot(reports, tmp_path / "plot.svg", "nDCG@10", lengths=[halves, {"≤128": np.ones(12, dtype=bool)}])
    said = drawn(tmp_path / "plot.svg")
    assert {"one", "another-set", "30 queries", "12 queries", "≤128", "129–512", "10 queries", "20 queries"} <= set(
        said
    )
    for system in ("dense", "sparse", "multi-vector", "hybrid", "BM25"):
        assert said.count(system) == 1
    titles = [text for text in said if "by tokens of the relevant passage" in text]
    assert titles == ["one, by tokens of the relevant passage"]  # the other has one length only


def size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return int.from_bytes(header[16:20]), int.from_bytes(header[20:24])


def test_a_picture_grows_with_its_panels_and_sets(tmp_path: Path) -> None:
    halves = {"a": np.arange(30) < 10, "b": np.arange(30) >= 10}
    plot([report("one")], tmp_path / "one.png", "nDCG@10")
    plot([report("one")] * 3, tmp_path / "lengths.png", "nDCG@10", lengths=[halves] * 3)
    plot([report(f"set-{i}", queries=5) for i in range(12)], tmp_path / "many.png", "nDCG@10")
    one, lengths, many = (size(tmp_path / f"{name}.png") for name in ("one", "lengths", "many"))
    assert lengths[0] == one[0] < many[0]
    assert lengths[1] > 2.5 * one[1]
    assert many[1] == one[1]


@pytest.mark.filterwarnings("ignore:.*drawn as boxes")  # where no font has them
def test_chinese_names_break_nothing(tmp_path: Path) -> None:
    plot([report("中文问答-检索")], tmp_path / "plot.svg", "nDCG@10")
    assert "中文问答-检索" in drawn(tmp_path / "plot.svg")


@pytest.mark.parametrize("name", ["plot.jpg", "plot", "missing/plot.png"])
def test_a_file_that_cannot_be_drawn_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"a plot is a \.png, \.svg, \.pdf file in a folder that exists"):
        plot([report("one")], tmp_path / name, "nDCG@10")


def test_without_matplotlib_it_says_what_to_install() -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
from m3core.evaluation import check_plot
try:
    check_plot("plot.png")
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'm3-retrieval[eval]'" in said
