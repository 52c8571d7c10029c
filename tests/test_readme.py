import re
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
    "name", ["README.md", "README.zh-CN.md", "examples/data/debate/README.md", "m3core/mini/README.md"]
)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_the_recipes_in_docstrings_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import langchain_m3
    import m3stores
    from llama_index.embeddings.m3 import M3Embedding
    from llama_index.retrievers.m3 import M3Retriever

    monkeypatch.chdir(tmp_path)
    for documented in (
        langchain_m3.M3Embeddings,
        langchain_m3.M3Retriever,
        M3Embedding,
        M3Retriever,
        m3stores.QdrantStore,
    ):
        (recipe,) = re.findall(r"```python\n(.*?)```", documented.__doc__, re.S)
        exec("if True:\n" + recipe, {})
