import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import write_json
from typer.testing import CliRunner

from m3cli.app import app
from m3core import InvalidInput, M3Encoder, MissingDependency, UnsupportedMode
from m3core.scoring import mode_scores

MINI = ["--model", "m3-mini"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def m3_eval(*arguments: object) -> str:
    """Runs the command in this process; errors come through as they are."""
    words = ["eval", *map(str, arguments)]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def small(debate: Path, tmp_path: Path) -> Path:
    """What the debate corpus has about homework."""
    folder = tmp_path / "small"
    folder.mkdir()
    for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv"):
        lines = (debate / name).read_text("utf-8").splitlines()
        (folder / name).write_text("\n".join(s for s in lines if "homework" in s or s.startswith("query-id")), "utf-8")
    return folder


def write_judged(folder: Path, encoder: M3Encoder, by: Callable[[str], str]) -> Path:
    """A set in which the right answer is what one mode of the model ranks first, and another mode does not.

    `by` says for a query's id whether that mode is dense or sparse.
    """
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list(LETTERS), size=6)) for _ in range(300)]
    documents, queries = encoder.encode_documents(texts[:40]), encoder.encode_queries(texts[40:])
    best = {mode: mode_scores(queries, documents, mode).argmax(axis=1) for mode in ("dense", "sparse")}
    apart = np.flatnonzero(best["dense"] != best["sparse"])[:60].tolist()
    folder.mkdir()
    for name, kept in (("corpus", range(40)), ("queries", [40 + i for i in apart])):
        lines = [json.dumps({"_id": f"{name[0]}{i}", "text": texts[i]}) for i in kept]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    rows = [f"q{40 + i}\tc{best[by(f'q{40 + i}')][i]}\t1\n" for i in apart]
    (folder / "qrels.tsv").write_text("".join(rows), "utf-8")
    return folder


@pytest.fixture
def model(m3_dir: Path, tmp_path: Path) -> Path:
    """One whose hybrid is dense alone."""
    folder = Path(shutil.copytree(m3_dir, tmp_path / "model"))
    write_json(folder / "m3.json", {"score_weights": [1, 0, 0]})
    return folder


def test_it_prints_a_table_by_kind(small: Path) -> None:
    out = m3_eval(small, "--by", "kind", *MINI)
    assert re.search(r"small \(11 queries, 18 passages\) +nDCG@10 +95 % +MRR@10 +Recall@100", out)
    for system in ("dense", "sparse", "multi-vector", "hybrid", "BM25"):
        assert re.search(rf"^{system} +0\.\d+ +0\.\d+–[01]\.\d+", out, re.M)
    assert re.search(r"^paraphrase \(4\) +0\.\d{3} 0\.\d{3}–", out, re.M)


def test_by_length_on_needles_and_drawn(small: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = m3_eval(small, "--by-length", "--needle", "150", "--plot", tmp_path / "plot.png", *MINI)
    assert re.search(r"^small \(11 queries, 18 passages\)", out, re.M)
    assert re.search(r"^small-needle-150 \(\d+ queries, \d+ passages\)", out, re.M)
    assert out.count("nDCG@10 by tokens of the relevant passage") == 2
    assert re.search(r"^≤128 \(11\) +0\.", out, re.M)
    assert re.search(r"^129–512 \(\d+\) +0\.", out, re.M)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_weights_are_found_told_and_stored_in_the_model(model: Path, tmp_path: Path) -> None:
    plain = ["--no-bm25", "--dtype", "float32", "--model", model]
    judged = write_judged(tmp_path / "judged", M3Encoder(model, dtype="float32"), lambda _: "sparse")
    out = m3_eval(judged, "--fit-weights", *plain)
    found = re.search(r"weights found on (\d+) queries: +dense 1, sparse ([\d.]+), multi-vector ([\d.]+)", out)
    assert "the model's until now:  dense 1, sparse 0, multi-vector 0" in out
    held_out = re.search(r"^judged \((\d+)\) +(0\.\d+) +([01]\.\d+) +\+(0\.\d+) +\+0\.\d+ to \+0\.\d+", out, re.M)
    assert int(found[1]) + int(held_out[1]) == 60
    assert float(held_out[3]) - float(held_out[2]) == pytest.approx(float(held_out[4]), abs=2e-3)
    assert f"stored in {model / 'm3.json'}" in out
    assert M3Encoder(model).score_weights == (1.0, float(found[2]), float(found[3]))
    scores = [dict(re.findall(r"^(dense|hybrid) +([\d.]+)", text, re.M)) for text in (out, m3_eval(judged, *plain))]
    assert float(scores[0]["hybrid"]) == float(scores[0]["dense"]) < float(scores[1]["hybrid"]) - 0.2


def test_weights_that_are_worse_on_the_other_queries_are_not_stored(model: Path, tmp_path: Path) -> None:
    def by(query: str) -> str:
        """Sparse is right on the half that weights are found on, and dense on the other."""
        return "dense" if hashlib.blake2b(f"0:{query}".encode(), digest_size=8).digest()[0] % 2 else "sparse"

    judged = write_judged(tmp_path / "judged", M3Encoder(model, dtype="float32"), by)
    out = m3_eval(judged, "--fit-weights", "--no-bm25", "--dtype", "float32", "--model", model)
    assert re.search(r"^judged \(\d+\) +1\.000 +0\.\d+ +-0\.\d+ +-0\.\d+ to -0\.\d+", out, re.M)
    assert "not stored: on the other queries they are worse than those that the model has" in out
    assert json.loads((model / "m3.json").read_text()) == {"score_weights": [1, 0, 0]}


def test_weights_for_a_model_that_is_no_directory_are_told_with_what_makes_one(small: Path) -> None:
    out = m3_eval(small, "--fit-weights", "--no-bm25", *MINI)
    assert re.search(r"weights found on \d+ queries: +dense 1, sparse", out)
    assert (
        "not stored: weights are stored in a directory of yours, and m3-mini is none: m3 download m3-mini --to" in out
    )


def test_what_cannot_be_done_is_named_before_the_work(small: Path, m3e_dir: Path, tmp_path: Path) -> None:
    missing = ["--model", "./missing"]
    for needle in ("long", "512,", "5.5", "-3"):
        with pytest.raises(InvalidInput, match=r"--needle takes numbers of tokens between commas"):
            m3_eval(small, f"--needle={needle}", *missing)
    with pytest.raises((InvalidInput, MissingDependency), match=r"a plot"):
        m3_eval(small, "--plot", tmp_path / "plot.gif", *missing)
    with pytest.raises(UnsupportedMode, match="dense only: there is nothing to fuse"):
        m3_eval(small, "--fit-weights", "--model", m3e_dir)
    with pytest.raises(InvalidInput, match="too few to make documents of 9000 tokens"):
        m3_eval(small, "--needle", "9000", *MINI)
