"""LangChain's standard tests of vector stores, for our store and for LangChain's own ones of Qdrant and Chroma.

    python tests/benchmarks/langchain_standard.py           # with langchain-qdrant and langchain-chroma where installed

Each store runs the whole suite as it is, in a process of its own. Prints a table.
"""

import importlib.util
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests


def ours(kept: list[str], chroma: bool = False) -> Callable[[], VectorStore]:
    def make() -> VectorStore:
        from langchain_m3 import M3VectorStore
        from m3stores import ChromaStore, QdrantStore

        return M3VectorStore((ChromaStore if chroma else QdrantStore)("standard"), "m3-mini", store_modes=kept)

    return make


def langchain_qdrant(hybrid: bool) -> Callable[[], VectorStore]:
    def make() -> VectorStore:
        from langchain_qdrant import QdrantVectorStore, RetrievalMode

        from langchain_m3 import M3SparseEmbeddings

        more = {"sparse_embedding": M3SparseEmbeddings(model="m3-mini")} if hybrid else {}
        return QdrantVectorStore.construct_instance(
            embedding=VectorStoreIntegrationTests.get_embeddings(),
            retrieval_mode=RetrievalMode.HYBRID if hybrid else RetrievalMode.DENSE,
            client_options={"location": ":memory:"},
            collection_name=uuid.uuid4().hex,
            **more,
        )

    return make


def langchain_chroma() -> VectorStore:
    from langchain_chroma import Chroma

    return Chroma(uuid.uuid4().hex, VectorStoreIntegrationTests.get_embeddings())


ALL = ["dense", "sparse", "multivector"]
STORES: dict[str, tuple[str, Callable[[], VectorStore]]] = {
    "M3VectorStore, Qdrant, dense": ("qdrant_edge", ours(["dense"])),
    "M3VectorStore, Qdrant, hybrid": ("qdrant_edge", ours(["dense", "sparse"])),
    "M3VectorStore, Qdrant, hybrid reranked": ("qdrant_edge", ours(ALL)),
    "M3VectorStore, Chroma, dense": ("chromadb", ours(["dense"], chroma=True)),
    "M3VectorStore, Chroma, hybrid": ("chromadb", ours(["dense", "sparse"], chroma=True)),
    "M3VectorStore, Chroma, hybrid reranked": ("chromadb", ours(ALL, chroma=True)),
    "langchain-qdrant, dense": ("langchain_qdrant", langchain_qdrant(hybrid=False)),
    "langchain-qdrant, hybrid": ("langchain_qdrant", langchain_qdrant(hybrid=True)),
    "langchain-chroma, dense": ("langchain_chroma", langchain_chroma),
}


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:
        store = STORES[os.environ["STANDARD_STORE"]][1]()
        yield store
        if hasattr(store, "store"):
            store.store.close()


def main() -> None:
    """Runs the suite for each store that is installed."""
    options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "-o", "addopts=", "--import-mode=importlib"]
    print("| store | passed | failed |\n|---|---|---|")
    for name, (package, _) in STORES.items():
        if importlib.util.find_spec(package) is None:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "pytest", Path(__file__).resolve(), *options],
            env={**os.environ, "STANDARD_STORE": name},
            capture_output=True,
            text=True,
            check=False,
        )
        counts = dict.fromkeys(("passed", "failed", "error"), 0)
        for number, what in re.findall(r"(\d+) (passed|failed|error)", done.stdout.splitlines()[-1]):
            counts[what] = int(number)
        print(f"| {name} | {counts['passed']} | {counts['failed'] + counts['error']} |", flush=True)


if __name__ == "__main__":
    main()
