import re
from pathlib import Path

import pytest

from m3core import InvalidInput, M3Encoder, UnsupportedMode, explain
from m3core.explaining import plot_ranks, plot_similarity

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.filterwarnings("ignore:.*drawn as boxes")  # where no font has Chinese


def said(path: Path) -> list[str]:
    """What an SVG says, which matplotlib keeps in comments beside the outlines of letters."""
    return re.findall(r"<!-- (.*?) -->", path.read_text("utf-8"))


def test_a_heat_map_names_the_tokens_of_both(mini: M3Encoder, tmp_path: Path) -> None:
    why = explain("法国 $首都$", "巴黎是法国的首都 costs $5 and $6", mini)
    plot_similarity(why, tmp_path / "map.svg")
    texts = said(tmp_path / "map.svg")
    assert texts.count("法国") == texts.count("首都") == 2
    assert "巴黎" in texts
    assert texts.count("end") == 2


def test_a_long_passage_is_drawn_in_part(mini: M3Encoder, tmp_path: Path) -> None:
    plot_similarity(explain("法国首都", "巴黎是法国的首都。" * 60, mini), tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_without_multivectors_has_no_heat_map(m3e_dir: Path, tmp_path: Path) -> None:
    with M3Encoder(m3e_dir, device="cpu") as encoder, pytest.raises(UnsupportedMode, match="multi-vectors"):
        plot_similarity(explain("the one", "the two", encoder), tmp_path / "map.png")


def test_ranks_by_each_mode_stand_beside_the_fused_ones(tmp_path: Path) -> None:
    plot_ranks(
        ["a" * 60, "$b$"],
        [{"dense": 2, "sparse": 1, "multivector": 1}, {"dense": 1, "sparse": 57, "multivector": 2}],
        tmp_path / "ranks.svg",
        title="Who pays $5 for $6?",
    )
    texts = said(tmp_path / "ranks.svg")
    assert {"dense", "sparse", "multi-vector", "fused", "$b$", "Who pays $5 for $6?", "a" * 39 + "…", "50"} <= set(
        texts
    )
    plot_ranks(["one"], [{"dense": 1}], tmp_path / "one.png")
    plot_ranks(["one", "other"], [{"dense": 1}, {"sparse": 1}], tmp_path / "none.png")  # no mode has both


@pytest.mark.parametrize(("labels", "ranks"), [([], []), (["a"], []), (["a"], [{"dense": 1}, {"dense": 2}])])
def test_ranks_of_nothing_are_refused(labels: list[str], ranks: list[dict[str, int]], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="a label for each"):
        plot_ranks(labels, ranks, tmp_path / "ranks.svg")  # type: ignore[arg-type]
