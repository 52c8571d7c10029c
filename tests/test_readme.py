import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARIS = "巴黎是法国的首都。"


def blocks() -> list:
    found = []
    for name in ("README.md", "README.zh-CN.md"):
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / name).read_text("utf-8"), re.S)):
            found.append(pytest.param(block, id=f"{name}-{number}"))
    return found


@pytest.mark.parametrize("block", blocks())
def test_the_python_in_the_readme_runs_as_printed(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(block, names)
    if "invoke" in block:
        assert [d.page_content for d in names["retriever"].invoke("法国首都在哪里？", k=1)] == [PARIS]
    elif "retrieve(" in block:
        assert [n.text for n in names["retriever"].retrieve("法国首都在哪里？")] == [PARIS]
    elif "hits" in block:
        assert names["hits"][0][0].text == PARIS
        names["store"].close()
    else:
        assert names["query"].score(names["docs"])[0].argmax() == 0


@pytest.mark.parametrize(
    "name",
    ["README.md", "README.zh-CN.md", "examples/README.md", "examples/data/debate/README.md", "m3core/mini/README.md"],
)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


DOCUMENTED = [
    "m3core.VectorCache",
    "m3stores.ChromaStore",
    "m3stores.QdrantStore",
    "langchain_m3.M3Embeddings",
    "langchain_m3.M3Reranker",
    "langchain_m3.M3Retriever",
    "langchain_m3.M3SparseEmbeddings",
    "langchain_m3.M3VectorStore",
    "llama_index.embeddings.m3.M3Embedding",
    "llama_index.postprocessor.m3.M3Rerank",
    "llama_index.retrievers.m3.M3Retriever",
    "llama_index.sparse_embeddings.m3.M3SparseEmbedding",
    "llama_index.vector_stores.m3.M3VectorStore",
]
NOT_HERE = ("http:", "https:", "num_workers=")  # servers, hubs, other processes


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_recipes_in_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one after the other, as one program."""
    module, _, documented = name.rpartition(".")
    recipes = re.findall(r"```python\n(.*?)```", getattr(import_module(module), documented).__doc__, re.S)
    here = [recipe for recipe in recipes if not any(word in recipe for word in NOT_HERE)]
    assert here
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for recipe in here:
        exec("if True:\n" + recipe, names)
