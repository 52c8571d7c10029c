import subprocess
import sys
from importlib import import_module

import pytest

import m3core

PUBLIC = {
    "DBSF", "MODES", "RRF", "CacheWarning", "CollectionLocked", "CollectionMismatch", "DownloadFailed", "EncoderClosed",
    "Explanation",
    "Fingerprint", "Fusion", "InvalidInput", "InvalidModel", "M3Encoder", "M3Error", "M3Output", "M3Warning",
    "MissingDependency", "Mode", "ModelNotFound", "OutOfMemory", "Record", "SparseVector", "StoreError", "StoreWarning",
    "Token", "TokenWeight", "TrainingFailed", "TruncationWarning",
    "UnknownTokensWarning", "UnsupportedMode", "VectorCache", "WeightedSum", "WorkerDied",
    "WorkerWarning", "compute_score", "explain", "fuse",
}  # fmt: skip


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_public_names_are_these() -> None:
    assert set(m3core.__all__) == PUBLIC
    assert all(getattr(m3core, name) is not None for name in PUBLIC)


def test_importing_loads_neither_torch_nor_transformers() -> None:
    loaded = run("import sys, m3core; m3core.M3Encoder, m3core.M3Output, m3core.fuse; print(*sys.modules)").split()
    assert not {"torch", "transformers", "scipy", "huggingface_hub"} & set(loaded)


def test_a_missing_extra_says_how_to_install_it() -> None:
    code = """
import sys
sys.modules["bm25s"] = sys.modules["ir_measures"] = None
from m3core import MissingDependency
from m3core.evaluation import BM25, measure
for use in (lambda: BM25(["a"]), lambda: measure({}, {}, [])):
    try:
        use()
    except MissingDependency as error:
        print(error)
"""
    assert run(code).count("pip install 'm3-retrieval[eval]'") == 2


ADAPTERS = {
    "langchain_m3": ("langchain_core", "llama_index", "langchain"),
    **{
        f"llama_index.{group}.m3": ("llama_index.core", "langchain_core", "llama-index")
        for group in ("embeddings", "postprocessor", "retrievers", "sparse_embeddings", "vector_stores")
    },
}
NAMES = {
    "langchain_m3": {"M3Embeddings", "M3Reranker", "M3Retriever", "M3SparseEmbeddings", "M3VectorStore"},
    "llama_index.embeddings.m3": {"M3Embedding"},
    "llama_index.postprocessor.m3": {"M3Rerank"},
    "llama_index.retrievers.m3": {"M3Retriever"},
    "llama_index.sparse_embeddings.m3": {"M3SparseEmbedding"},
    "llama_index.vector_stores.m3": {"M3VectorStore"},
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_public_names_of_an_adapter_are_these(adapter: str) -> None:
    assert set(import_module(adapter).__all__) == NAMES[adapter]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_needs_only_its_own_framework(adapter: str) -> None:
    own, other, _ = ADAPTERS[adapter]
    loaded = run(f"""
import sys
sys.modules[{other!r}] = sys.modules["qdrant_edge"] = sys.modules["filelock"] = None
import {adapter}
print(*sys.modules)
""").split()
    assert own in loaded


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_without_its_framework_says_how_to_install_it(adapter: str) -> None:
    own, _, extra = ADAPTERS[adapter]
    said = run(f"""
import sys
sys.modules[{own!r}] = None
from m3core import MissingDependency
try:
    import {adapter}
except MissingDependency as error:
    print(error)
""")
    assert f"pip install 'm3-retrieval[{extra}]'" in said


def test_a_retriever_without_the_engine_says_how_to_install_it() -> None:
    said = run("""
import sys
sys.modules["qdrant_edge"] = None
from m3core import MissingDependency
from langchain_m3 import M3Retriever
try:
    M3Retriever.from_texts(["a"], encoder="m3-mini")
except MissingDependency as error:
    print(error)
""")
    assert "pip install 'm3-retrieval[qdrant]'" in said


def test_importing_the_adapters_loads_no_model_library() -> None:
    for name in ("m3stores", "langchain_m3", "m3core.settings"):
        loaded = run(f"import sys, {name}; print(*sys.modules)").split()
        assert not {"torch", "transformers", "qdrant_edge"} & set(loaded), name
