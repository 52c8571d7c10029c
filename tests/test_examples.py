"""The examples, run as a user runs them."""

import base64
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from example_scripts import EXAMPLES, load, run

from m3core import M3Encoder

JSON = {"Content-Type": "application/json"}


@pytest.mark.slow
def test_the_quickstart_indexes_once_and_answers_its_three_questions(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "quickstart.py", tmp_path)
    shutil.copytree(EXAMPLES / "data", tmp_path / "data")
    first, second = run(tmp_path / "quickstart.py"), run(tmp_path / "quickstart.py")
    assert first == second
    assert "288 passages in" in first
    best = re.findall(r"^\S.*？?\n  [\d.]+ \(.*?\)  (\S+):", first, re.M)
    assert [b.split("-")[0] for b in best] == ["ai", "old", "minor"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["langchain_rag", "llama_index_rag"])
def test_a_rag_example_answers_with_citations_and_takes_a_follow_up(name: str) -> None:
    """By itself the second question does not say what it is about."""
    out = run(EXAMPLES / f"{name}.py", "--chat", "人工智能会取代教师吗？", "那乡村学校呢？", "--side", "pro")
    _, *answers = out.split("问：")
    assert len(answers) == 2
    for answer in answers:
        assert len(re.findall(r"^“.+”\[[123]\]$", answer, re.M)) == 3
        sources = re.findall(r"^  \[(\d)\] (\S+): (.+), (\w+)$", answer, re.M)
        assert [source[0] for source in sources] == ["1", "2", "3"]
        assert {source[3] for source in sources} == {"pro"}
        assert sources[0][1].startswith("ai-teacher")
    assert "“那里的孩子面对的选择" in answers[1]


def test_the_quotations_are_in_the_passages(mini, debate_texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    quoting = load("quoting", monkeypatch)
    answer = list(quoting.quotes(mini, "城市该收拥堵费吗？", debate_texts[:4]))
    assert len(answer) == 4
    for sentence, number in re.findall(r"“(.+)”\[(\d)\]", "".join(answer)):
        assert sentence in debate_texts[int(number) - 1]
    assert list(quoting.quotes(mini, "问题", [])) == [quoting.NOTHING]
    assert quoting.standalone("它呢？", [("甲？", "…"), ("乙？", "…")]) == "乙？ 它呢？"


def test_langchain_takes_a_chat_model(mini, debate_texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It rephrases what follows, answers from the best passages only, and streams."""
    from langchain_core.language_models import FakeListChatModel

    from langchain_m3 import M3Reranker, M3Retriever

    example = load("langchain_rag", monkeypatch)
    retriever = M3Retriever.from_texts(debate_texts[:8], encoder=mini, k=4)
    reranker = M3Reranker.from_encoder(mini, top_n=2)
    question = "人工智能会取代教师吗？"
    chain = example.build_chain(retriever, reranker, FakeListChatModel(responses=["会的[1]。"]))
    found = chain.invoke({"question": question, "history": []})
    assert (found["answer"], found["query"]) == ("会的[1]。", question)
    scores = mini.encode_queries([question]).score(mini.encode_documents(debate_texts[:8]))[0]
    assert [d.page_content for d in found["documents"]] == [debate_texts[i] for i in (-scores).argsort()[:2]]

    model = FakeListChatModel(responses=["机器能代替乡村教师吗？", "不会[2]。"])
    chain = example.build_chain(retriever, reranker, model)
    parts = list(chain.stream({"question": "那乡村呢？", "history": [(question, "会的[1]。")]}))
    assert "".join(part.get("query", "") for part in parts) == "机器能代替乡村教师吗？"
    answer = [part["answer"] for part in parts if "answer" in part]
    assert "".join(answer) == "不会[2]。"
    assert len(answer) > 1


def test_llama_index_takes_a_language_model(mini, monkeypatch: pytest.MonkeyPatch) -> None:
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.core.llms import MockLLM

    from llama_index.embeddings.m3 import M3Embedding
    from llama_index.vector_stores.m3 import M3VectorStore
    from m3stores import QdrantStore

    example = load("llama_index_rag", monkeypatch)
    embed_model = M3Embedding.from_encoder(mini)
    context = StorageContext.from_defaults(vector_store=M3VectorStore(QdrantStore("test"), embed_model))
    index = VectorStoreIndex.from_documents(
        example.read_documents()[:8], storage_context=context, embed_model=embed_model
    )
    engine = example.build_engine(index, embed_model, llm=MockLLM())  # it repeats its prompt
    response = engine.query("人工智能会取代教师吗？")
    answer = "".join(response.response_gen)
    assert "Source 1:" in answer
    assert len(response.source_nodes) == 3
    assert response.source_nodes[0].node.get_content().split("\n", 1)[1] in answer
    history = [("人工智能会取代教师吗？", "会的[1]。")]
    assert "那乡村呢？" in example.rephrased("那乡村呢？", history, MockLLM())
    assert "会的[1]。" in example.rephrased("那乡村呢？", history, MockLLM())


def test_the_server_answers_many_at_once_and_names_errors(mini: M3Encoder, debate_texts: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def ask(kind: str, texts: list[str], modes: list[str]) -> dict:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", f"/{kind}", json.dumps({"texts": texts, "modes": modes}), JSON)
        return json.loads(connection.getresponse().read())

    server = subprocess.Popen([sys.executable, EXAMPLES / "serve.py", "--model", "m3-mini", "--port", str(port)])
    try:
        await_answers(port, server)
        texts = debate_texts[:40]
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda text: ask("queries", [text], ["dense", "sparse"]), texts))
        expected = mini.encode_queries(texts, modes=["dense"]).dense
        for answer, vector in zip(found, expected, strict=True):
            assert answer.keys() == {"dense", "sparse"}
            assert np.dot(np.frombuffer(base64.b64decode(answer["dense"][0]), "<f4"), vector) > 0.999
        assert len(ask("documents", texts, ["multivector"])["multivector"]) == 40
        assert "modes must be a list" in ask("queries", ["a"], [])["error"]
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(30) in (0, -signal.SIGINT)


def await_answers(port: int, server: "subprocess.Popen[bytes]") -> None:
    while server.poll() is None:
        try:
            http.client.HTTPConnection("127.0.0.1", port).connect()
        except OSError:
            time.sleep(0.1)
        else:
            return


@pytest.mark.slow
def test_fine_tuning_improves_what_is_found(tmp_path: Path) -> None:
    """As printed for a user, with its learning curves."""
    out = run(EXAMPLES / "finetune.py", "--plot", str(tmp_path / "curves.png"))
    before, after = map(float, re.search(r"^  ndcg@10 +(0\.\d+) → (0\.\d+)$", out, re.M).groups())
    assert after > before + 0.03
    assert (
        len(re.findall(r"^  (?:before|after) +the answer is (?:at rank \d+|not among ten); first: .+…$", out, re.M))
        == 12
    )
    assert (tmp_path / "curves.png").stat().st_size > 10_000
