"""The examples of similarity, stores, mirrors, long texts and clusters: what they print is so."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from counting import counted_passes
from example_scripts import EXAMPLES, load, run

from m3core import RRF, M3Encoder, M3Output
from m3core.records import read_records

pytestmark = pytest.mark.slow  # seconds each, and whole programs
MOTIONS = ("ai-teacher", "minor-social")
FIGURE = "“少睡47分钟”这个数据出自哪家机构、怎么测的？"

WEIGHTS = {"dense": (1, 0, 0), "sparse": (0, 1, 0), "weighted": (1, 0.1, 0), "reranked": (1, 0.1, 0.5)}

Started = Callable[..., str]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], corpus: Path) -> Started:
    """Runs an example's main function in this process, with a small corpus, and returns what it prints."""

    def start(name: str, *arguments: str) -> str:
        example = load(name, monkeypatch)
        if hasattr(example, "CORPUS"):
            monkeypatch.setattr(example, "CORPUS", corpus)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        example.main()
        return capsys.readouterr().out

    return start


@pytest.fixture(scope="module")
def corpus(debate: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The passages of two motions."""
    lines = (debate / "corpus.jsonl").read_text("utf-8").splitlines(keepends=True)
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(line for line in lines if json.loads(line)["metadata"]["motion_id"] in MOTIONS), "utf-8")
    return path


@pytest.fixture(scope="module")
def encoded(corpus: Path, mini: M3Encoder) -> tuple[list[str], M3Output]:
    """The ids and representations of those that speak against a motion."""
    records = [record for record in read_records(corpus) if record.metadata["side"] == "con"]
    return [record.id for record in records], mini.encode_documents([record.text for record in records])


def test_similarity_says_whether_cosine_and_distance_rank_alike(started: Started, mini: M3Encoder) -> None:
    sentences = ["这个多少钱", "这个什么价格", "这个给我吧"]
    out = started("similarity")
    pairs = re.findall(r"^ ([\d.]+) +([\d.]+)  (\S+) / (\S+)$", out, re.M)
    assert set(pairs[0][2:]) == set(sentences[:2])
    assert len(pairs) == 3
    unit = dict(zip(sentences, mini.encode_documents(sentences, modes=["dense"]).dense, strict=True))
    lengths = {sentence: float(length) for length, sentence in re.findall(r"^ {8,}([\d.]+)  (\S+)$", out, re.M)}
    for cosine, distance, a, b in pairs:
        assert float(cosine) == pytest.approx(float(unit[a] @ unit[b]), abs=0.01)
        assert float(distance) == pytest.approx(np.linalg.norm(lengths[a] * unit[a] - lengths[b] * unit[b]), abs=0.05)
    assert "rank these pairs alike" in out
    assert "rank these pairs differently" in started("similarity", "这个给我吧", "多少钱", "How much is this?")


def first(question: str, way: str, encoded: tuple[list[str], M3Output], mini: M3Encoder) -> str | None:
    """What an exhaustive search ranks first, if anything scores at all."""
    scores = mini.encode_queries([question]).score(encoded[1], weights=WEIGHTS[way])[0]
    return encoded[0][scores.argmax()] if scores.any() else None


def test_hybrid_retrieval_in_qdrant_explains_each_way(
    started: Started, encoded: tuple[list[str], M3Output], mini: M3Encoder
) -> None:
    out = started("hybrid_qdrant", "--side", "con")
    assert out.startswith("36 passages, 18 of them for a motion\n")
    tables = re.findall(r"^(\S.*[？?])\n(.+)\n((?:  .*-con-.*\n){3})", out, re.M)
    assert len(tables) == 2
    for question, names, rows in tables:
        assert "-pro-" not in rows
        found = dict(zip(names.split(), rows.split(), strict=False))
        for way in WEIGHTS:
            assert found[way] == (first(question, way, encoded, mini) or "-")
    explained = re.findall(r"^  (\w+): \S+ has ([\d.]+): .+…\n((?:    .+\n)+)", out, re.M)
    assert [way for way, *_ in explained] == ["weighted", "rrf", "reranked"] * 2
    for way, score, lines in explained:
        modes = re.findall(r"score +([\d.]+), rank +(\d+), adds ([\d.]+)", lines)
        assert float(score) == pytest.approx(sum(float(share) for *_, share in modes), abs=2e-4)
        assert len(modes) == (3 if way == "reranked" else 2)
        if way == "rrf":
            assert [float(s) for *_, s in modes] == pytest.approx(
                [1 / (RRF().k + int(rank)) for _, rank, _ in modes], abs=1e-4
            )


def test_hybrid_retrieval_in_chroma_encodes_once(
    started: Started, encoded: tuple[list[str], M3Output], mini: M3Encoder, tmp_path: Path
) -> None:
    arguments = (FIGURE, "--side", "con", "--path", str(tmp_path))
    out, again = (started("hybrid_chroma", *arguments) for _ in range(2))
    assert out.startswith("36 passages, 36 of them encoded now\n")
    assert again.startswith("36 passages, 0 of them encoded now\n")
    assert out.splitlines()[1:] == again.splitlines()[1:]
    found = dict(re.findall(r"^  (\w+)\n    \S+  (\S+): ", out, re.M))
    assert found.keys() == {*WEIGHTS, "rrf"}
    for way in WEIGHTS:
        assert found[way] == first(FIGURE, way, encoded, mini)


def test_langchains_own_collection_gets_both_vectors_from_one_pass(started: Started) -> None:
    pytest.importorskip("langchain_qdrant")
    with counted_passes() as passes:
        out = started("langchain_qdrant_sparse", FIGURE)
    assert passes.texts == 36 + 3  # the passages, the question, and the two texts by which widths are measured
    found = re.findall(r"^  (all|con only) +(dense|sparse|hybrid)  (.+)$", out, re.M)
    assert [(where, mode) for where, mode, _ in found] == [
        (where, mode) for where in ("all", "con only") for mode in ("dense", "sparse", "hybrid")
    ]
    for where, _, hits in found:
        sides = re.findall(r"[\d.]+ \S+-(pro|con)-\S+", hits)
        assert len(sides) == 2
        assert where == "all" or set(sides) == {"con"}


def test_a_model_comes_from_the_mirror_when_the_first_endpoint_is_dead(
    started: Started, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    for name in ("HF_ASSETS_CACHE", "M3_ENDPOINTS"):
        monkeypatch.setenv(name, "")  # which the example changes
    caplog.set_level("INFO", "m3core.hub")
    *asked, loaded, offline = started("mirror_download", "--cache", str(tmp_path)).splitlines()
    assert caplog.messages[0].startswith("http://127.0.0.1:9: ")
    assert asked[0].endswith("/api/models/someone/m3-mini")
    assert len(asked) == len(set(asked)) == 9
    assert loaded.startswith("loaded M3Encoder('someone/m3-mini'")
    kept = tmp_path / "models--someone--m3-mini" / "snapshots" / offline.rpartition(" ")[2]
    assert {path.name for path in kept.iterdir()} >= {"config.json", "heads.safetensors", "model.q4.safetensors"}


def test_a_long_text_has_a_cls_token_before_every_so_many(started: Started) -> None:
    out = started("long_documents", "--mcls", "200")
    rows = re.findall(r"^a (passage|debate) +([\d,]+) +1 +(\d+) +([\d.]+)$", out, re.M)
    assert [row[0] for row in rows] == ["passage", "debate"]
    for name, length, cls_tokens, cosine in rows:
        own = int(length.replace(",", "")) - 2
        assert int(cls_tokens) == -(-own // 200)
        assert (float(cosine) > 0.9995) == (name == "passage")
    assert "says nothing of quality" in out


def test_a_cluster_encodes_once() -> None:
    pytest.importorskip("ray")
    out = run(EXAMPLES / "ray_indexing.py")
    runs = re.findall(r"^(\w+) run: 288 documents, 288 passages, (\d+) encoded, (\d+) unchanged, 0 rejected", out, re.M)
    assert runs == [("first", "288", "0"), ("second", "0", "288")]
    assert re.search(r"谁来监督算法？\n  \d\.\d+  \S+: ", out)


def test_the_readme_names_every_example() -> None:
    named = set(re.findall(r"\]\(([\w./]+)\)", (EXAMPLES / "README.md").read_text("utf-8")))
    there = {path.name for path in EXAMPLES.glob("*.py")} | {path.parent.name for path in EXAMPLES.glob("*/app.py")}
    assert there <= named
