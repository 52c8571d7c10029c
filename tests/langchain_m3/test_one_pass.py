"""Every text goes through the model once, whatever it is wanted for."""

import asyncio
from pathlib import Path

import pytest
from counting import counted_passes
from langchain_core.documents import Document
from store_home import Home

from langchain_m3 import M3Embeddings, M3Reranker, M3Retriever, M3SparseEmbeddings, M3VectorStore
from m3core import M3Encoder

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow.", "东京塔很高。", "首都在哪里？"]


def test_in_our_vector_store_in_all_modes(home: Home, mini: M3Encoder) -> None:
    with counted_passes() as passes:
        store = M3VectorStore(home.open(), mini)
        store.add_texts(TEXTS)
        assert passes.texts == len(TEXTS)
        asyncio.run(store.aadd_texts(["新的"]))
        assert passes.texts == len(TEXTS) + 1
        for search in (
            store.similarity_search,
            store.similarity_search_with_relevance_scores,
            store.max_marginal_relevance_search,
            store.as_retriever(search_type="hybrid").invoke,
        ):
            before = passes.texts
            search("法国首都在哪里？")
            assert passes.texts == before + 1
        asyncio.run(store.asimilarity_search("法国首都在哪里？"))
        assert passes.texts == before + 2


def test_in_our_retriever_even_when_it_explains(mini: M3Encoder) -> None:
    with counted_passes() as passes:
        retriever = M3Retriever.from_texts(TEXTS, encoder=mini, include_scores=True, include_tokens=True)
        assert passes.texts == len(TEXTS)
        assert retriever.invoke("法国首都在哪里？")
        assert passes.texts == len(TEXTS) + 1
        assert asyncio.run(retriever.ainvoke("法国首都在哪里？"))
        assert passes.texts == len(TEXTS) + 2


def test_in_langchains_own_qdrant_store() -> None:
    pytest.importorskip("langchain_qdrant")
    from langchain_qdrant import QdrantVectorStore, RetrievalMode
    from qdrant_client import QdrantClient, models

    settings = {"model": "m3-mini", "max_length": 500}  # an encoder of this test's own
    client = QdrantClient(":memory:")
    client.create_collection(
        "stock",
        vectors_config=models.VectorParams(size=384, distance=models.Distance.DOT),
        sparse_vectors_config={"langchain-sparse": models.SparseVectorParams()},
    )
    store = QdrantVectorStore(
        client,
        "stock",
        embedding=M3Embeddings(**settings),
        sparse_embedding=M3SparseEmbeddings(**settings),
        retrieval_mode=RetrievalMode.HYBRID,
        validate_collection_config=False,  # which embeds a text of its own
    )
    many = [f"第{n}个论点说的是{n * 7}号城市的交通。" for n in range(150)]  # in several of its batches
    with counted_passes() as passes:
        store.add_texts(many)
        assert passes.texts == len(many)
        found = store.similarity_search("第77个论点", k=3)
        assert passes.texts == len(many) + 1
        assert asyncio.run(store.asimilarity_search("第78个论点", k=3))
        assert passes.texts == len(many) + 2
    assert any("77" in document.page_content for document in found)


def test_what_was_reranked_before_costs_nothing_with_a_cache(tmp_path: Path) -> None:
    reranker = M3Reranker(model="m3-mini", cache=tmp_path / "vectors.sqlite")
    documents = [Document(text) for text in TEXTS]
    with counted_passes() as passes:
        reranker.compress_documents(documents, "法国首都在哪里？")
        assert passes.texts == len(TEXTS) + 1
        reranker.compress_documents(documents, "日本首都在哪里？")
        assert passes.texts == len(TEXTS) + 2
