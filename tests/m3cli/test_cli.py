import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import save_m3e
from typer.testing import CliRunner

from m3cli.app import app
from m3core import CollectionMismatch, InvalidInput, M3Encoder, M3Error

MINI = ["--model", "m3-mini"]


def m3(*arguments: str) -> str:
    """Runs the command in this process; errors come through as they are."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def write_records(path: Path, *records: dict) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), "utf-8")
    return path


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return write_records(tmp_path / "in.jsonl", {"_id": "a", "text": "巴黎是法国的首都。"}, {"id": 7, "text": "Tokyo"})


def test_search_shows_rank_scores_and_text(debate: Path) -> None:
    out = m3("search", debate, "边屿县2021年有几名专任物理教师？", "Who pays for congestion?", "-k", "2", *MINI)
    assert "288 passages, m3-mini" in out
    hits = re.findall(r"^(\d)\. ([\d.]+)  dense ([\d.]+)  sparse ([\d.]+)  multi-vector ([\d.]+)  (\S+)", out, re.M)
    assert [hit[0] for hit in hits] == ["1", "2", "1", "2"]
    assert hits[0][5].startswith("ai-teacher")
    for _, fused, dense, sparse, multi, _ in hits:
        assert float(fused) == pytest.approx(float(dense) + 0.1 * float(sparse) + 0.5 * float(multi), abs=2e-3)
    assert "2021年专任物理教师只有9人" in out


def test_search_explains_what_it_found(debate: Path, tmp_path: Path) -> None:
    questions = ["机器人会抢走老师的工作吗？", "Who pays for congestion?"]
    out = m3("search", debate, *questions, "-k", "2", "--explain", "--html", tmp_path / "why.html", *MINI)
    shares = re.findall(r"^\s+(dense|sparse|multi-vector) .* ([\d.]+) +█* *$", out, re.M)
    fused = [float(found) for found in re.findall(r"^\d\. ([\d.]+)", out, re.M)]
    assert [mode for mode, _ in shares] == ["dense", "sparse", "multi-vector"] * 4
    for i, score in enumerate(fused):
        assert sum(float(share) for _, share in shares[3 * i : 3 * i + 3]) == pytest.approx(score, abs=2e-3)
    assert "shared tokens: 老师 " in out
    assert "老师→老师" in out
    page = (tmp_path / "why.html").read_text("utf-8")
    assert page.count("<!doctype html>") == 1
    assert [query for query in questions if f"<h1>{query}</h1>" in page] == questions
    assert page.count('<div class="passage">') == 4


@pytest.mark.parametrize("explain", [[], ["--explain"]])
def test_a_passage_cannot_command_the_terminal(tmp_path: Path, explain: list[str]) -> None:
    write_records(
        tmp_path / "corpus.jsonl", {"_id": "a", "text": "第一行\r\n\x1b[2J第二行\r\n巴黎是法国的首都。", "title": ""}
    )
    out = m3("search", tmp_path, "法国首都", "-k", "1", *explain, *MINI)
    assert "\x1b[2J" not in out
    assert "巴黎是法国的首都。" in out


def test_explanations_of_a_collection_are_of_the_modes_it_has(folder: Path, tmp_path: Path) -> None:
    store = ["--store", f"qdrant:{tmp_path / 'index'}"]
    m3("index", folder, *store, "--modes", "dense,sparse", *MINI)
    out = m3("search", "教师", *store, "-k", "1", "--explain")
    (fused,) = re.findall(r"^1\. ([\d.]+)", out, re.M)
    shares = dict(re.findall(r"^\s+(dense|sparse|multi-vector) .* ([\d.]+) +█* *$", out, re.M))
    assert float(shares["multi-vector"]) == 0
    assert sum(map(float, shares.values())) == pytest.approx(float(fused), abs=2e-3)
    with pytest.raises(InvalidInput, match="its folder must exist"):
        m3("search", "教师", *store, "--html", tmp_path / "none" / "why.html")


@pytest.fixture
def folder(debate: Path, tmp_path: Path) -> Path:
    """Every twelfth passage of the debate corpus."""
    lines = (debate / "corpus.jsonl").read_text("utf-8").splitlines()[::12]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "corpus.jsonl").write_text("\n".join(lines), "utf-8")
    return tmp_path / "folder"


def words(out: str) -> list[str]:
    """Of a search, without its scores."""
    return [word for word in out.replace(",", "").split() if not re.fullmatch(r"\d+\.\d+", word)]


def scores(out: str) -> list[float]:
    """Of a search, with three digits."""
    return [float(number) for number in re.findall(r"\d+\.\d+", out)]


def test_index_then_search_finds_what_search_in_memory_finds(folder: Path, tmp_path: Path) -> None:
    store = f"qdrant:{tmp_path / 'index'}"
    out = m3("index", folder, "--store", store, *MINI)
    assert f"24 documents, 24 passages → {store}: 24 encoded" in out
    assert "24 in collection 'documents' (dense, sparse, multivector)" in out
    queries = ["边屿县2021年有几名专任物理教师？", "Who pays for congestion?"]
    found = m3("search", *queries, "--store", store)  # with the model that made it
    in_memory = m3("search", folder, *queries, *MINI)
    assert words(found) == words(in_memory)
    assert scores(found) == pytest.approx(scores(in_memory), abs=1.01e-3)  # a collection holds float16
    assert "0 encoded (0.0/s), 24 unchanged" in m3("index", folder, "--store", store, *MINI)


@pytest.mark.filterwarnings("ignore::m3core.errors.M3Warning")
def test_an_index_of_a_folder_of_texts(tmp_path: Path, m3_dir: Path) -> None:
    docs, report, rejects = tmp_path / "docs", tmp_path / "report.json", tmp_path / "rejects.jsonl"
    docs.mkdir()
    (docs / "a.md").write_text("# the one\n\n" + "中国人说的是大的。" * 40, "utf-8")
    (docs / "b.txt").write_bytes("你好".encode("gb18030"))
    command = ["index", docs, "--store", f"qdrant:{tmp_path / 'index'}", "--model", m3_dir, "--tokens", "64"]
    command += ["--rejects", rejects, "--report", report]
    assert "1 rejected" in m3(*command)
    made = json.loads(report.read_text("utf-8"))
    assert (made["documents"], made["rejected"]) == (1, 1)
    assert made["encoded"] == made["passages"] > 3
    assert CliRunner().invoke(app, [str(a) for a in (*command, "--strict")]).exit_code == 1
    assert json.loads(rejects.read_text("utf-8"))["where"] == "docs/b.txt"
    (docs / "b.txt").write_text("the one", "utf-8")
    assert "1 encoded" in m3(*command, "--strict")
    found = m3("search", "中国人", "--store", f"qdrant:{tmp_path / 'index'}", "--model", m3_dir)
    assert re.search(r"docs/a\.md(#passage\d)?$", found, re.MULTILINE)  # the document and the number are in the id


def test_an_index_in_chroma(folder: Path, tmp_path: Path) -> None:
    store = ["--store", f"chroma:{tmp_path / 'index'}"]
    assert "24 in collection 'documents' (dense, sparse, multivector)" in m3("index", folder, *store, *MINI)
    question = "边屿县2021年有几名专任物理教师？"
    found, in_memory = m3("search", question, *store), m3("search", folder, question, *MINI)
    assert sorted(words(found)) == sorted(words(in_memory))  # in another order
    assert sorted(scores(found)) == pytest.approx(sorted(scores(in_memory)), abs=1.01e-3)


def test_an_index_of_some_modes_in_a_collection_of_its_own(folder: Path, tmp_path: Path) -> None:
    store = ["--store", f"qdrant:{tmp_path / 'index'}", "--collection", "few"]
    assert "24 in collection 'few' (dense, sparse)" in m3("index", folder, *store, "--modes", "dense, sparse", *MINI)
    assert "multi-vector" not in m3("search", "教师", *store)


def test_search_uses_the_settings_that_the_index_was_made_with(folder: Path, tmp_path: Path) -> None:
    store = ["--store", f"qdrant:{tmp_path / 'index'}"]
    m3("index", folder, *store, "--modes", "dense", "--max-length", "256", *MINI)  # which no passage has
    assert "24 passages, m3-mini" in m3("search", "教师", *store)


def test_what_the_model_cannot_read_whole_is_split(folder: Path, tmp_path: Path) -> None:
    store = ["--store", f"qdrant:{tmp_path / 'index'}"]
    said = m3("index", folder, *store, "--modes", "dense", "--max-length", "32", *MINI)
    assert int(re.search(r"24 documents, (\d+) passages", said)[1]) > 48


@pytest.mark.filterwarnings("ignore::m3core.errors.M3Warning")
def test_an_index_with_cls_tokens_within_texts(folder: Path, tmp_path: Path, m3_dir: Path) -> None:
    store = ["--store", f"qdrant:{tmp_path / 'index'}", "--model", m3_dir]
    m3("index", folder, *store, "--mcls", "16")
    assert "24 passages" in m3("search", "教师", *store)
    with pytest.raises(CollectionMismatch, match="mcls is 16 there and None here"):
        m3("index", folder, *store)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "x", "--store", "qdrant:index"], "there is no directory index: m3 index makes one"),
        (["search", "x", "--store", "qdrant:empty"], "there is no collection 'documents' in qdrant:empty"),
        (["search", "x", "--store", "milvus:x"], "a store is qdrant: or chroma:"),
        (["search", "folder"], "takes a folder and at least one query"),
        (["index", "nowhere", "--store", "qdrant:index"], "there is no file or folder"),
        (["index", "empty", "--store", "qdrant:index"], "is empty"),
    ],
)
def test_a_store_that_cannot_be_used_is_named(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "corpus.jsonl").write_text("")
    with pytest.raises(InvalidInput, match=message):
        m3(*arguments, *MINI)


def test_matched_tokens_are_highlighted(mini: M3Encoder) -> None:
    from m3cli.search import _highlighted

    text = _highlighted(mini, "堵车的负外部性", mini.encode_queries(["负外部性"]))
    marked = {text.plain[span.start : span.end] for span in text.spans}
    assert {"负", "外部"} & marked
    assert "堵车" not in marked


def test_score_adds_up(tmp_path: Path) -> None:
    out = m3("score", "法国首都在哪里？", "巴黎是法国的首都。", "Bananas are yellow.", *MINI)
    good, bad = (float(line.split()[-1]) for line in out.splitlines() if line.startswith(("巴黎", "Bananas")))
    assert good > bad
    assert "hybrid = 1 · dense + 0.1 · sparse + 0.5 · multi-vector" in out


def test_encode_to_json_lines(records: Path, tmp_path: Path, mini: M3Encoder) -> None:
    m3("encode", records, tmp_path / "out.jsonl", *MINI)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    expected = mini.encode_documents(["巴黎是法国的首都。", "Tokyo"])
    assert [row["_id"] for row in rows] == ["a", "7"]
    assert rows[0]["dense"] == pytest.approx(expected.dense[0].tolist(), abs=1e-6)
    assert {int(i): w for i, w in rows[1]["sparse"].items()} == pytest.approx(expected.sparse[1].as_dict(), abs=1e-6)
    assert len(rows[0]["multivector"]) == len(expected.multivector[0])


def test_encode_to_parquet_and_store_without_a_model(records: Path, tmp_path: Path, mini: M3Encoder) -> None:
    import pyarrow.parquet as pq

    encoded, address = tmp_path / "out.parquet", f"qdrant:{tmp_path / 'index'}"
    assert "2 encoded" in m3("encode", records, encoded, "--modes", "dense, sparse", *MINI)
    table = pq.read_table(encoded)
    assert table.column_names == ["_id", "text", "metadata", "dense", "sparse_indices", "sparse_values", "text_hash"]
    row = table.to_pylist()[0]
    expected = mini.encode_documents(["巴黎是法国的首都。", "Tokyo"]).sparse[0].as_dict()
    assert dict(zip(row["sparse_indices"], row["sparse_values"], strict=True)) == pytest.approx(expected, abs=1e-6)
    out = m3("index", encoded, "--from-encoded", "--store", address, "--model", "./missing")
    assert "2 stored" in out
    assert "2 in collection 'documents' (dense, sparse)" in out
    assert "巴黎" in m3("search", "法国首都在哪里？", "--store", address, *MINI)
    with pytest.raises(InvalidInput, match="leave out --sync, --ray, and"):
        m3("index", encoded, "--from-encoded", "--sync", "--store", address)


def test_encode_passes_over_what_cannot_be_used(records: Path, tmp_path: Path) -> None:
    with records.open("a") as file:
        file.write('{"_id": "c", "body": "no text"}\n')
    rejects = tmp_path / "rejects.jsonl"
    out = m3("encode", records, tmp_path / "out.jsonl", "--rejects", rejects, *MINI)
    assert "2 encoded" in out
    assert "the column 'text' is missing" in out
    assert [p.name for p in sorted(tmp_path.glob("[!.]*"))] == ["in.jsonl", "out.jsonl", "rejects.jsonl"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("out.csv", r"must end in \.jsonl or \.parquet"),
        ("out", r"must end in \.jsonl or \.parquet"),
        ("in.jsonl", "lies in the source"),
        ("no/such/out.jsonl", "its folder must exist"),
    ],
)
def test_encode_refuses_a_target_before_the_model_loads(
    records: Path, tmp_path: Path, target: str, message: str
) -> None:
    before = records.read_bytes()
    with pytest.raises(InvalidInput, match=message):
        m3("encode", records, tmp_path / target, "--model", "./missing")
    assert records.read_bytes() == before


def test_encode_refuses_an_empty_source(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"in\.jsonl: it is empty"):
        m3("encode", write_records(tmp_path / "in.jsonl"), tmp_path / "out.parquet", "--model", "./missing")


def test_brackets_in_texts_are_text(tmp_path: Path) -> None:
    assert "[/x] [red]巴黎" in m3("score", "[/x]", "[/x] [red]巴黎", *MINI)


def test_info_tells_what_a_model_is_without_loading_it(m3e_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(m3e_dir, tmp_path / "model"))
    (folder / "model.safetensors").write_bytes(b"no weights" * 200_000)
    (folder / "int8.safetensors").write_bytes(b"made of them" * 100_000)
    out = m3("info", folder)
    assert re.search(r"weights +2 MB", out)
    assert re.search(r"modes +dense\s*$", out, re.M)
    assert re.search(r"dense +32-d, mean pooling", out)
    save_m3e(folder, dense=24)
    assert re.search(r"dense +24-d, mean pooling", m3("info", folder))
    assert re.search(r"maximum length +48 tokens", out)
    assert re.search(r"score weights +dense 1, sparse 0.1, multi-vector 0.5", m3("info"))


def test_an_error_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    code = "import sys; from m3cli import main; sys.argv = ['m3', 'search', sys.argv[1], 'q', '-m', 'm3-mini']; main()"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.sub(r"\s", "", done.stderr) == re.sub(r"\s", "", f"error: there is no file {tmp_path}/corpus.jsonl")


def test_errors_are_named(debate: Path) -> None:
    with pytest.raises(M3Error, match="there is no directory"):
        m3("search", debate, "q", "--model", "./missing")
