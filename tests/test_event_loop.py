"""The event loop goes on while any async method of any adapter works: real encoder, real embedded stores of 20,000."""

import os
from collections.abc import Awaitable, Callable, Iterator
from itertools import count

import numpy as np
import pytest
from counting import share_of_ticks
from langchain_core.documents import Document
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery, VectorStoreQueryMode

from langchain_m3 import M3Embeddings, M3Reranker, M3Retriever, M3SparseEmbeddings
from langchain_m3 import M3VectorStore as LangChainStore
from llama_index.embeddings.m3 import M3Embedding
from llama_index.postprocessor.m3 import M3Rerank
from llama_index.retrievers.m3 import M3Retriever as LlamaIndexRetriever
from llama_index.sparse_embeddings.m3 import M3SparseEmbedding
from llama_index.vector_stores.m3 import M3VectorStore as LlamaIndexStore
from m3core import M3Encoder, M3Output, Record, SparseVector
from m3stores import ChromaStore, HybridStore, QdrantStore

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

RECORDS, LEAST = 20_000, 0.8
NUMBERS = count()
MODEL = "m3-mini"


def new_texts(texts: list[str], number: int = 200) -> list[str]:
    """Which no cache has seen; in one go they take the mini over 300 ms."""
    return [f"{next(NUMBERS)} {texts[i % len(texts)]}" for i in range(number)]


@pytest.fixture(scope="module", params=[QdrantStore, ChromaStore], ids=["qdrant", "chroma"])
def store(request: pytest.FixtureRequest, mini: M3Encoder, debate_texts: list[str]) -> Iterator[HybridStore]:
    rng = np.random.default_rng(0)
    with request.param("large") as opened:
        for start in range(0, RECORDS, 2000):
            dense = rng.normal(size=(2000, 384)).astype(np.float32)
            rows = rng.normal(size=(2000, 4, 128)).astype(np.float32)
            output = M3Output(
                dense / np.linalg.norm(dense, axis=1, keepdims=True),
                [
                    SparseVector(np.sort(rng.choice(20_000, 30, replace=False)), rng.random(30).astype(np.float32))
                    for _ in range(2000)
                ],
                list(rows / np.linalg.norm(rows, axis=2, keepdims=True)),
                mini.score_weights,
                mini.fingerprint,
            )
            records = [
                Record(str(start + i), debate_texts[i % len(debate_texts)], {"n": start + i, "side": "pro"})
                for i in range(2000)
            ]
            opened.upsert(records, output)
        assert opened.count() == RECORDS
        opened.search(mini.encode_queries(["warm"]), rerank=True)
        yield opened


def embedding_methods(texts: list[str]) -> dict[str, Callable[[], Awaitable[object]]]:
    langchain, sparse = M3Embeddings(model=MODEL), M3SparseEmbeddings(model=MODEL, max_length=300)
    llama, llama_sparse = M3Embedding(MODEL, max_length=400), M3SparseEmbedding(MODEL, max_length=301)
    reranker, rerank = M3Reranker(model=MODEL), M3Rerank(MODEL)
    for component in (langchain, sparse, llama, llama_sparse):
        assert component.encoder.modes  # loads it

    def documents() -> list[Document]:
        return [Document(text) for text in new_texts(texts)]

    def nodes() -> list:
        from llama_index.core.schema import NodeWithScore

        return [NodeWithScore(node=TextNode(text=text)) for text in new_texts(texts)]

    return {
        "M3Encoder.aencode_documents": lambda: langchain.encoder.aencode_documents(new_texts(texts)),
        "M3Embeddings.aembed_documents": lambda: langchain.aembed_documents(new_texts(texts)),
        "M3Embeddings.aembed_query": lambda: langchain.aembed_query(new_texts(texts)[0]),
        "M3SparseEmbeddings.aembed_documents": lambda: sparse.aembed_documents(new_texts(texts)),
        "M3SparseEmbeddings.aembed_query": lambda: sparse.aembed_query(new_texts(texts)[0]),
        "M3Reranker.acompress_documents": lambda: reranker.acompress_documents(documents(), "谁来监督算法？"),
        "M3Embedding.aget_text_embedding_batch": lambda: llama.aget_text_embedding_batch(new_texts(texts)),
        "M3Embedding.aget_text_embedding": lambda: llama.aget_text_embedding(new_texts(texts)[0]),
        "M3Embedding.aget_query_embedding": lambda: llama.aget_query_embedding(new_texts(texts)[0]),
        "M3Embedding.acall": lambda: llama.acall([TextNode(text=text) for text in new_texts(texts)]),
        "M3SparseEmbedding.aget_text_embedding_batch": lambda: llama_sparse.aget_text_embedding_batch(new_texts(texts)),
        "M3SparseEmbedding.aget_query_embedding": lambda: llama_sparse.aget_query_embedding(new_texts(texts)[0]),
        "M3Rerank.apostprocess_nodes": lambda: rerank.apostprocess_nodes(nodes(), query_str="谁来监督算法？"),
    }


def store_methods(
    store: HybridStore, encoder: M3Encoder, texts: list[str]
) -> dict[str, Callable[[], Awaitable[object]]]:
    langchain, retriever = LangChainStore(store, encoder), M3Retriever.from_store(store, encoder=encoder)
    explaining = M3Retriever.from_store(store, encoder=encoder, include_scores=True, include_tokens=True)
    embed_model = M3Embedding(MODEL)
    llama = LlamaIndexStore(store, embed_model)
    llama_retriever = LlamaIndexRetriever.from_store(store, encoder=encoder)
    assert embed_model.encoder.modes  # loads it
    vector = langchain.embeddings.embed_query("谁来监督算法？")

    def question() -> str:
        return f"{next(NUMBERS)} 谁来监督算法？"

    def documents() -> list[Document]:
        return [Document(text, metadata={"new": True}) for text in new_texts(texts)]

    def nodes() -> list[TextNode]:
        return [TextNode(text=text, metadata={"new": True}) for text in new_texts(texts)]

    def by_mode(mode: VectorStoreQueryMode) -> VectorStoreQuery:
        return VectorStoreQuery(query_embedding=vector, query_str=question(), similarity_top_k=5, mode=mode)

    some = MetadataFilters(filters=[MetadataFilter(key="n", value=200, operator="<")])
    none = MetadataFilters(filters=[MetadataFilter(key="n", value=-1, operator="<")])
    ids, oldest = [str(i) for i in range(200)], count(1000)
    methods: dict[str, Callable[[], Awaitable[object]]] = {
        "LangChain aadd_documents": lambda: langchain.aadd_documents(documents()),
        "LangChain afrom_texts": lambda: LangChainStore.afrom_texts(new_texts(texts), encoder, store=store),
        "LangChain aadd_texts": lambda: langchain.aadd_texts(new_texts(texts)),
        "LangChain asimilarity_search": lambda: langchain.asimilarity_search(question()),
        "LangChain asimilarity_search, filter": lambda: langchain.asimilarity_search(question(), filter={"n": 3}),
        "LangChain asimilarity_search_by_vector": lambda: langchain.asimilarity_search_by_vector(vector),
        "LangChain asimilarity_search_with_relevance_scores": lambda: (
            langchain.asimilarity_search_with_relevance_scores(question())
        ),
        "LangChain amax_marginal_relevance_search": lambda: langchain.amax_marginal_relevance_search(question()),
        "LangChain aget_by_ids": lambda: langchain.aget_by_ids(ids),
        "LangChain adelete, none there": lambda: langchain.adelete(["none such"]),
        "LangChain adelete, filter": lambda: langchain.adelete(filter={"n": -1}),
        "LangChain retriever of the store": lambda: langchain.as_retriever(search_type="hybrid").ainvoke(question()),
        "LangChain M3Retriever": lambda: retriever.ainvoke(question()),
        "LangChain M3Retriever, explaining": lambda: explaining.ainvoke(question()),
        "LlamaIndex async_add": lambda: llama.async_add(nodes()),
        "LlamaIndex aget_nodes": lambda: llama.aget_nodes(ids),
        "LlamaIndex aget_nodes, filters": lambda: llama.aget_nodes(filters=some),
        "LlamaIndex adelete": lambda: llama.adelete("none such"),
        "LlamaIndex adelete_nodes, filters": lambda: llama.adelete_nodes(ids, filters=none),
        "LlamaIndex M3Retriever": lambda: llama_retriever.aretrieve(question()),
    }
    for mode in ("DEFAULT", "SPARSE", "HYBRID", "SEMANTIC_HYBRID", "MMR"):
        query_mode = VectorStoreQueryMode[mode]
        methods[f"LlamaIndex aquery, {mode}"] = lambda query_mode=query_mode: llama.aquery(by_mode(query_mode))
    return methods | {  # last, for not many records are left
        "LangChain adelete": lambda: langchain.adelete([str(next(oldest)) for _ in range(100)]),
        "LlamaIndex adelete_nodes": lambda: llama.adelete_nodes([str(next(oldest)) for _ in range(100)]),
    }


async def check(methods: dict[str, Callable[[], Awaitable[object]]]) -> None:
    """Each method again, up to five times, where another process took the core."""
    shares = {name: [await share_of_ticks(method)] for name, method in methods.items()}
    for name, measured in shares.items():
        while max(measured) < LEAST and len(measured) < 5:
            measured.append(await share_of_ticks(methods[name]))
    if os.environ.get("M3_SHOW_TICKS"):
        print("\n".join(f"{max(measured):.2f} {name} {measured}" for name, measured in sorted(shares.items())))
    assert {name: measured for name, measured in shares.items() if max(measured) < LEAST} == {}


async def test_while_encoding(debate_texts: list[str]) -> None:
    await check(embedding_methods(debate_texts))


async def test_while_searching_and_writing(store: HybridStore, mini: M3Encoder, debate_texts: list[str]) -> None:
    await check(store_methods(store, mini, debate_texts))
