"""`m3 train`, each command end to end."""

import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from m3cli.app import app
from m3core import InvalidInput, M3Error, MissingDependency, UnsupportedMode
from m3core.train.records import Example, read_examples

LONG = "This paragraph says what the section is about, at some length, so that somebody may want to find it again."


def m3(*arguments: object) -> str:
    """Runs the command in this process; errors come through as they are."""
    result = CliRunner().invoke(app, ["train", *map(str, arguments)], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def write(path: Path, *records: dict) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), "utf-8")
    return path


def read(path: Path) -> list[Example]:
    return [record for record in read_examples(path) if isinstance(record, Example)]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    names = ("the one", "中国人说的", "two of me", "是不是来了", "up to 5")
    return write(tmp_path / "in.jsonl", *({"query": f"{n}?", "pos": [f"{n} is it"], "id": n} for n in names))


def test_mining_writes_records_that_can_be_read(records: Path, tmp_path: Path, m3_dir: Path) -> None:
    out = m3("mine", records, tmp_path / "out.jsonl", "--model", m3_dir, "--negatives", 3, "--dtype", "float32")
    assert f"5 records, 15 negatives among 5 passages → {tmp_path / 'out.jsonl'}" in out
    assert "fewer" not in out
    made = read(tmp_path / "out.jsonl")
    assert [example.query for example in made] == [example.query for example in read(records)]
    positives = {text for example in made for text in example.positives}
    for example in made:
        assert set(example.negatives) <= positives - set(example.positives)
        assert len(set(example.negatives)) == 3


def test_mining_says_where_there_is_too_little(records: Path, tmp_path: Path, m3_dir: Path) -> None:
    corpus = write(tmp_path / "corpus.jsonl", {"_id": "1", "text": "one more"}, {"_id": "2", "text": "two of me is it"})
    arguments = ("--model", m3_dir, "--corpus", corpus, "--modes", "dense, sparse, multivector")
    out = m3("mine", records, tmp_path / "out.jsonl", *arguments)
    assert "5 records, 25 negatives among 6 passages" in out
    assert "; 5 records have fewer than 7, 0 of them none" in out
    out = m3("mine", records, tmp_path / "out.jsonl", *arguments, "--max-score", -100)
    assert "0 negatives" in out
    assert "5 of them none" in out
    assert len(read(tmp_path / "out.jsonl")) == 5


def test_mining_with_the_model_as_its_own_teacher(records: Path, tmp_path: Path, m3_dir: Path) -> None:
    m3("mine", records, tmp_path / "out.jsonl", "--model", m3_dir, "--teacher", "hybrid", "--negatives", 2)
    assert all(len(example.scores) == 3 for example in read(tmp_path / "out.jsonl"))


def test_mining_with_a_cross_encoder(records: Path, tmp_path: Path, m3_dir: Path) -> None:
    from tiny import save_m3
    from transformers import AutoModelForSequenceClassification, XLMRobertaConfig

    from m3core.train.making.teachers import CrossEncoder

    folder = save_m3(tmp_path / "reranker", heads=False)
    config = XLMRobertaConfig.from_pretrained(folder, num_labels=1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    arguments = ("--model", m3_dir, "--teacher", folder, "--negatives", 2, "--device", "cpu")
    m3("mine", records, tmp_path / "out.jsonl", *arguments)
    teacher = CrossEncoder(folder, device="cpu")
    for example in read(tmp_path / "out.jsonl"):
        pairs = [(example.query, text) for text in (*example.positives, *example.negatives)]
        assert example.scores == pytest.approx(teacher(pairs), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["none.jsonl", "out.jsonl"], InvalidInput, "there is no file"),
        (["in.jsonl", "in.jsonl"], InvalidInput, "is read as well"),
        (["in.jsonl", "none/out.jsonl"], InvalidInput, "its folder must exist"),
        (["in.jsonl", "out.json"], InvalidInput, "must end in .jsonl"),
        (["bad.jsonl", "out.jsonl"], InvalidInput, "bad.jsonl:2"),
        (["scored.jsonl", "out.jsonl"], InvalidInput, "scored pairs"),
        (["in.jsonl", "out.jsonl", "--corpus", "bad.jsonl"], InvalidInput, "bad.jsonl:1: expected an _id"),
        (["in.jsonl", "out.jsonl", "--range-min", "9", "--range-max", "9"], InvalidInput, "range_min"),
        (["in.jsonl", "out.jsonl", "--sampling", "best"], InvalidInput, "sampling is random or top"),
        (["in.jsonl", "out.jsonl", "--modes", "lexical"], UnsupportedMode, "cannot search by lexical"),
    ],
)
def test_what_cannot_be_mined_is_named(
    records: Path, m3_dir: Path, arguments: list[str], error: type, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(records.parent)
    write(Path("bad.jsonl"), {"query": "a", "pos": ["b"]}, {"query": "a", "pos": []})
    write(Path("scored.jsonl"), {"sentence1": "a", "sentence2": "b", "score": 1})
    with pytest.raises(error, match=message):
        m3("mine", *arguments, "--model", m3_dir)
    assert not list(records.parent.glob("out*"))


def test_pairs_of_files_and_folders(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text(
        f"# Packing boxes well\n\n{LONG}\n\n## Closing a box\n\n{LONG} Tape.\n\n## Short one\n\nNo.\n"
    )
    (docs / "b.html").write_text(f"<h1>How are boxes opened?</h1><p>{LONG} With care.</p>")
    more = write(tmp_path / "more.jsonl", {"question": "Who packs the boxes?", "answer": f"{LONG} We do."})
    out = m3("pairs", docs, more, tmp_path / "out.jsonl")
    assert f"3 files, 4 pairs (title 1, heading 1, question 2) → {tmp_path / 'out.jsonl'}" in out
    assert "left out: repeated 1, text too short 1" in out
    assert {example.query for example in read(tmp_path / "out.jsonl")} == {
        "Packing boxes well", "Closing a box", "How are boxes opened?", "Who packs the boxes?",
    }  # fmt: skip
    assert set(json.loads((tmp_path / "out.jsonl").read_text("utf-8").splitlines()[0])) == {"query", "pos"}
    out = m3("pairs", docs, tmp_path / "out.jsonl", "--kinds", "question", "--min-words", "1")
    assert "2 files, 1 pairs (question 1)" in out


def test_a_bad_source_leaves_no_pairs_behind(tmp_path: Path) -> None:
    good = write(tmp_path / "a.jsonl", {"title": "The first of them", "text": LONG})
    bad = write(tmp_path / "b.jsonl", {"title": "The first of them"})
    with pytest.raises(InvalidInput, match=r"b.jsonl:1: holds no pair"):
        m3("pairs", good, bad, tmp_path / "out.jsonl")
    with pytest.raises(InvalidInput, match="is read as well"):
        m3("pairs", good, good)
    with pytest.raises(InvalidInput, match="kinds of pairs"):
        m3("pairs", good, tmp_path / "out.jsonl", "--kinds", "sections")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]
    assert CliRunner().invoke(app, ["train", "pairs", str(good)]).exit_code == 2


MODEL = """
from langchain_core.language_models import FakeListChatModel, SimpleChatModel

model = FakeListChatModel(responses=["When was the bridge of this document built?"])
mute = FakeListChatModel(responses=["", "  "])
number = 3

def made():
    return model

class Failing(SimpleChatModel):
    about: str
    _llm_type = "failing"

    def _call(self, messages, **kwargs):
        if self.about in messages[0].content:
            raise ConnectionError("no answer from the server")
        return "When was the bridge of this document built?"

some, all_calls = Failing(about="of 1."), Failing(about="of")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with five long documents and a module with language models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "scripted_models.py").write_text(MODEL, "utf-8")
    monkeypatch.delitem(sys.modules, "scripted_models", raising=False)
    write(Path("docs.jsonl"), *({"_id": str(i), "text": f"{LONG} Part of {i}.\n" * 30} for i in range(5)))
    return tmp_path


def test_questions_about_documents(here: Path) -> None:
    out = m3("synth", "docs.jsonl", "out.jsonl", "--llm", "scripted_models:model")
    assert out.strip() == "5 documents, 5 questions → out.jsonl"
    documents = [json.loads(line)["text"].strip() for line in Path("docs.jsonl").read_text("utf-8").splitlines()]
    made = read(Path("out.jsonl"))
    assert [example.positives for example in made] == [(text,) for text in documents]
    assert {example.query for example in made} == {"When was the bridge of this document built?"}


def test_a_run_goes_on_where_another_stopped(here: Path) -> None:
    synth = ("synth", "docs.jsonl", "out.jsonl", "--llm", "scripted_models:made")
    m3(*synth)
    whole = Path("out.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    Path("out.jsonl").write_bytes(lines[0] + lines[1] + lines[2][:40])  # killed while it wrote
    assert m3(*synth).strip() == "3 documents, 3 questions → out.jsonl; 2 were there before"
    assert Path("out.jsonl").read_bytes() == whole
    assert m3(*synth).strip() == "0 documents, 0 questions → out.jsonl; 5 were there before"


def test_a_limit_draws_the_same_documents_again(here: Path) -> None:
    synth = ("synth", "docs.jsonl", "out.jsonl", "--llm", "scripted_models:model", "--limit", 2)
    assert "2 documents, 2 questions" in m3(*synth)
    assert "0 documents, 0 questions → out.jsonl; 2 were there before" in m3(*synth)


def test_answers_and_calls_that_fail_are_counted(here: Path) -> None:
    out = m3("synth", "docs.jsonl", "out.jsonl", "--llm", "scripted_models:mute", "--tries", 2)
    assert "5 documents, 0 questions → out.jsonl; without: empty answer 5" in out
    assert Path("out.jsonl").read_text() == ""
    out = m3("synth", "docs.jsonl", "out.jsonl", "--llm", "scripted_models:some")
    assert "5 documents, 4 questions → out.jsonl; without: empty answer 1" in out
    assert "3 calls failed, the last with ConnectionError: no answer from the server" in out


def test_a_model_that_never_answers_stops_the_command_and_loses_nothing(here: Path) -> None:
    m3("synth", "docs.jsonl", "out.jsonl", "--llm", "scripted_models:model", "--limit", 2)
    before = Path("out.jsonl").read_bytes()
    with pytest.raises(M3Error, match=r"answers nothing .*no answer from the server"):
        m3("synth", "docs.jsonl", "out.jsonl", "--llm", "scripted_models:all_calls")
    assert Path("out.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["none.jsonl", "out.jsonl"], InvalidInput, "there is no file"),
        (["empty.jsonl", "out.jsonl"], InvalidInput, "empty.jsonl is empty"),
        (["twice.jsonl", "out.jsonl"], InvalidInput, "'a' stands twice"),
        (["docs.jsonl", "docs.jsonl"], InvalidInput, "is read as well"),
        (["docs.jsonl", "other.jsonl"], InvalidInput, "other.jsonl:1: has no id"),
        (["docs.jsonl", "out.jsonl", "--llm", "gpt"], InvalidInput, "provider:model or module:attribute"),
        (["docs.jsonl", "out.jsonl", "--llm", "scripted_models:number"], InvalidInput, "is int, and neither"),
        (["docs.jsonl", "out.jsonl", "--tries", "0"], InvalidInput, "tries must be at least 1"),
    ],
)
def test_what_cannot_be_asked_about_is_named(here: Path, arguments: list[str], error: type, message: str) -> None:
    Path("empty.jsonl").write_text("\n")
    write(Path("twice.jsonl"), {"_id": "a", "text": "x"}, {"_id": "a", "text": "y"})
    write(Path("other.jsonl"), {"query": "a", "pos": ["b"]})
    other = Path("other.jsonl").read_bytes()
    with pytest.raises(error, match=message):
        m3("synth", *(arguments if "--llm" in arguments else [*arguments, "--llm", "scripted_models:model"]))
    assert Path("other.jsonl").read_bytes() == other
    assert not Path("out.jsonl").exists()


def test_other_names_go_to_langchain(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_core.language_models import FakeListChatModel

    def made(name: str) -> FakeListChatModel:
        if name.startswith("acme:"):
            return FakeListChatModel(responses=[f"Which bridge does {name} mean by this?"])
        if name.startswith("lost:"):
            raise ImportError("pip install langchain-lost\n\nmore")
        raise ValueError(f"no provider of {name}\n\nmore")

    chat_models = types.ModuleType("langchain.chat_models")
    chat_models.init_chat_model = made  # what langchain itself has; it is no dependency
    monkeypatch.setitem(sys.modules, "langchain", types.ModuleType("langchain"))
    monkeypatch.setitem(sys.modules, "langchain.chat_models", chat_models)
    m3("synth", "docs.jsonl", "out.jsonl", "--llm", "acme:m-1", "--limit", 1)
    assert read(Path("out.jsonl"))[0].query == "Which bridge does acme:m-1 mean by this?"
    with pytest.raises(MissingDependency, match=r"lost:m: pip install langchain-lost$"):
        m3("synth", "docs.jsonl", "out.jsonl", "--llm", "lost:m")
    with pytest.raises(InvalidInput, match=r"no provider of scripted_models:none$"):
        m3("synth", "docs.jsonl", "out.jsonl", "--llm", "scripted_models:none")


def test_what_is_not_installed_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain", None)
    with pytest.raises(MissingDependency, match="pip install langchain"):
        m3("synth", "docs.jsonl", "out.jsonl", "--llm", "openai:gpt-5")
    monkeypatch.setitem(sys.modules, "lxml", None)
    (here / "a.md").write_text("# Title of it\n")
    with pytest.raises(MissingDependency, match=r"m3-retrieval\[html\]"):
        m3("pairs", "a.md", "out.jsonl")


def test_the_command_starts_without_torch() -> None:
    code = "import sys, m3cli.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "lxml", "markdown_it", "langchain_core"} & set(loaded)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return write(tmp_path / "pairs.jsonl", *({"query": f"{a} 中", "pos": [f"the {a}"]} for a in letters))


def test_fine_tuning_makes_a_model_that_the_other_commands_take(pairs: Path, tmp_path: Path, m3e_dir: Path) -> None:
    out = m3(
        "finetune", pairs, "--model", m3e_dir, "--output", tmp_path / "run", "--dev", pairs, "--epochs", 2,
        "--modes", "dense,sparse", "--matryoshka", "32, 16", "--evaluations", 2, "--batch-size", 13, "--device", "cpu",
    )  # fmt: skip
    assert re.search(r"on the dev set +before +after\n *ndcg@10 +0\.\d{3} +0\.\d{3}", out)
    assert f"the model is in {tmp_path / 'run' / 'model'}" in out
    score = CliRunner().invoke(app, ["score", "a", "the a", "--model", str(tmp_path / "run" / "model")])
    assert score.exit_code == 0
    assert "sparse" in score.output


def test_contrastive_training_leaves_heads_as_they_are(pairs: Path, tmp_path: Path, m3_dir: Path) -> None:
    m3("contrastive", pairs, "--model", m3_dir, "--output", tmp_path / "run", "--batch-size", 13, "--device", "cpu")
    heads = [torch.load(d / "colbert_linear.pt", weights_only=True) for d in (m3_dir, tmp_path / "run" / "model")]
    assert torch.equal(heads[0]["weight"], heads[1]["weight"])
    bodies = [load_file(d / "model.safetensors") for d in (m3_dir, tmp_path / "run" / "model")]
    query = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(bodies[0][query], bodies[1][query])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--matryoshka", "32,x"], "--matryoshka takes whole numbers"),
        (["--modes", "lexical"], "modes are some of"),
        (["--freeze", "all"], "freeze must be"),
        (["--dev", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
    ],
)
def test_what_fine_tuning_refuses(pairs: Path, tmp_path: Path, m3e_dir: Path, options: list[str], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        m3("finetune", pairs, "--model", m3e_dir, "--output", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()
