"""The examples, run as a user runs them."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_quickstart_indexes_once_and_answers_its_three_questions(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "quickstart.py", tmp_path)
    shutil.copytree(EXAMPLES / "data", tmp_path / "data")
    first, second = run(tmp_path / "quickstart.py"), run(tmp_path / "quickstart.py")
    assert first == second
    assert "288 passages in" in first
    best = re.findall(r"^\S.*？?\n  [\d.]+ \(.*?\)  (\S+):", first, re.M)
    assert [b.split("-")[0] for b in best] == ["ai", "old", "minor"]


@pytest.mark.parametrize("name", ["langchain_rag", "llama_index_rag"])
def test_a_rag_example_answers_with_citations(name: str) -> None:
    out = run(EXAMPLES / f"{name}.py", "人工智能会取代教师吗？", "--side", "pro")
    assert len(re.findall(r"^“.+”\[[123]\]$", out, re.M)) == 3
    sources = re.findall(r"^  \[(\d)\] (\S+): (.+), (\w+)$", out, re.M)
    assert [source[0] for source in sources] == ["1", "2", "3"]
    assert {source[3] for source in sources} == {"pro"}
    assert sources[0][1].startswith("ai-teacher")


def test_the_quotations_are_in_the_passages(mini, debate_texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    quoting = load("quoting", monkeypatch)
    answer = quoting.quote(mini, "城市该收拥堵费吗？", debate_texts[:4])
    for sentence, number in re.findall(r"“(.+)”\[(\d)\]", answer):
        assert sentence in debate_texts[int(number) - 1]
    assert quoting.quote(mini, "问题", [])


def test_langchain_takes_a_chat_model(mini, debate_texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_core.language_models import FakeListChatModel

    from langchain_m3 import M3Retriever

    example = load("langchain_rag", monkeypatch)
    retriever = M3Retriever.from_texts(debate_texts[:8], encoder=mini, k=2)
    found = example.build_chain(retriever, FakeListChatModel(responses=["会的[1]。"])).invoke("人工智能会取代教师吗？")
    assert found["answer"] == "会的[1]。"
    assert len(found["documents"]) == 2
    assert example.numbered(found).startswith(f"[1] {found['documents'][0].page_content}")


def test_llama_index_takes_a_language_model(mini, monkeypatch: pytest.MonkeyPatch) -> None:
    from llama_index.core.llms import MockLLM

    from llama_index.retrievers.m3 import M3Retriever

    example = load("llama_index_rag", monkeypatch)
    retriever = M3Retriever.from_documents(example.read_documents()[:8], encoder=mini)
    response = example.build_engine(retriever, mini, MockLLM()).query("人工智能会取代教师吗？")  # it repeats its prompt
    assert "Source 1:" in str(response)
    assert response.source_nodes[0].node.get_content().split("\n", 1)[1] in str(response)
