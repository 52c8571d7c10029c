"""Every text goes through the model once, though LlamaIndex asks for its vectors more than once."""

import itertools

import pytest
from counting import counted_passes
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline

from llama_index.embeddings.m3 import M3Embedding
from llama_index.postprocessor.m3 import M3Rerank
from llama_index.sparse_embeddings.m3 import M3SparseEmbedding
from llama_index.vector_stores.m3 import M3VectorStore
from m3stores import QdrantStore

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow.", "东京塔很高。"]
DOCUMENTS = [Document(text=text, id_=f"doc {i}") for i, text in enumerate(TEXTS)]
_LENGTHS = itertools.count(300)
MODES = ["default", "sparse", "hybrid", "semantic_hybrid", "mmr"]


@pytest.fixture
def settings() -> dict:
    """Of an encoder of this test's own: components of the same settings share one, and what it has encoded."""
    return {"model": "m3-mini", "max_length": next(_LENGTHS)}


def index_over(vector_store, embed_model: M3Embedding, **options) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=vector_store)
    return VectorStoreIndex.from_documents(
        DOCUMENTS, storage_context=context, embed_model=embed_model, transformations=[], **options
    )


@pytest.mark.parametrize("use_async", [False, True])
async def test_in_an_index_in_every_mode(settings, call, use_async) -> None:
    embed_model = M3Embedding(**settings)
    vector_store = M3VectorStore(QdrantStore("documents"), embed_model)
    with counted_passes() as passes:
        index = index_over(vector_store, embed_model, use_async=use_async)
        assert passes.texts == len(TEXTS)
        await call(index, "insert", Document(text="新的一句话"))
        assert passes.texts == len(TEXTS) + 1
        for n, mode in enumerate(MODES, 1):
            await call(index.as_retriever(vector_store_query_mode=mode), "retrieve", f"the question of {mode}")
            assert passes.texts == len(TEXTS) + 1 + n
    assert vector_store.client.modes == ("dense", "sparse", "multivector")


async def test_in_an_index_of_some_modes(settings, call) -> None:
    embed_model = M3Embedding(**settings)
    vector_store = M3VectorStore(QdrantStore("documents"), embed_model, store_modes=["dense", "sparse"])
    with counted_passes() as passes:
        index = index_over(vector_store, embed_model)
        assert passes.texts == len(TEXTS)
        await call(index.as_retriever(vector_store_query_mode="hybrid"), "retrieve", "首都")
        assert passes.texts == len(TEXTS) + 1
    assert vector_store.client.modes == ("dense", "sparse")


async def test_in_an_index_that_is_opened_again(tmp_path, settings, call) -> None:
    with QdrantStore("documents", path=tmp_path) as store:
        embed_model = M3Embedding(**settings)
        index_over(M3VectorStore(store, embed_model), embed_model)
    settings = settings | {"batch_tokens": 4096}  # another encoder, of the same vectors
    with QdrantStore("documents", path=tmp_path) as store, counted_passes() as passes:
        embed_model = M3Embedding(**settings)
        index = VectorStoreIndex.from_vector_store(M3VectorStore(store, embed_model), embed_model)
        assert await call(index.as_retriever(vector_store_query_mode="semantic_hybrid"), "retrieve", "首都")
        assert passes.texts == 1


async def test_in_a_pipeline(settings, call) -> None:
    embed_model = M3Embedding(**settings)
    vector_store = M3VectorStore(QdrantStore("documents"), embed_model)
    with counted_passes() as passes:
        pipeline = IngestionPipeline(transformations=[embed_model], vector_store=vector_store)
        await call(pipeline, "run", documents=[document.model_copy() for document in DOCUMENTS])
        assert passes.texts == len(TEXTS)
    assert vector_store.client.count() == len(TEXTS)


async def test_of_nodes_without_embeddings(settings, call) -> None:
    vector_store = M3VectorStore(QdrantStore("documents"), M3Embedding(**settings))
    with counted_passes() as passes:
        await call(vector_store, "add", DOCUMENTS)
        assert passes.texts == len(TEXTS)


async def test_of_what_a_cache_holds_there_is_none(tmp_path, settings, call) -> None:
    for expected in (len(TEXTS) + 1, 0):
        settings |= {"cache": tmp_path / "vectors.sqlite", "batch_tokens": 4096 + expected}  # another encoder each time
        embed_model = M3Embedding(**settings)
        with counted_passes() as passes:
            index = index_over(M3VectorStore(QdrantStore("documents"), embed_model), embed_model)
            assert await call(index.as_retriever(vector_store_query_mode="semantic_hybrid"), "retrieve", "首都")
            assert passes.texts == expected


async def test_in_llama_indexs_own_qdrant_store(settings, call) -> None:
    pytest.importorskip("llama_index.vector_stores.qdrant")
    from llama_index.vector_stores.qdrant import QdrantVectorStore
    from qdrant_client import AsyncQdrantClient, QdrantClient

    embed_model, sparse = M3Embedding(**settings), M3SparseEmbedding(**settings)
    vector_store = QdrantVectorStore(
        "documents",
        client=QdrantClient(":memory:"),
        aclient=AsyncQdrantClient(":memory:"),
        enable_hybrid=True,
        sparse_doc_fn=sparse.sparse_doc_fn,
        sparse_query_fn=sparse.sparse_query_fn,
    )
    nodes = [Document(text=text) for text in TEXTS]
    with counted_passes() as passes:
        index = VectorStoreIndex.from_vector_store(vector_store, embed_model)
        await call(index, "insert_nodes", nodes)
        assert passes.texts == len(TEXTS)
        options = {"vector_store_query_mode": "hybrid", "similarity_top_k": 2, "sparse_top_k": 4}
        best, *_ = await call(index.as_retriever(**options), "retrieve", "法国的首都在哪里？")
        assert passes.texts == len(TEXTS) + 1
        assert best.node.get_content() == TEXTS[0]


async def test_of_a_query_that_is_reranked_too_where_all_share_an_encoder(settings, call) -> None:
    embed_model = M3Embedding(**settings)
    index = index_over(M3VectorStore(QdrantStore("documents"), embed_model), embed_model)
    rerank = M3Rerank(**settings)
    with counted_passes() as passes:
        found = await call(index.as_retriever(similarity_top_k=4), "retrieve", "首都")
        assert len(await call(rerank, "postprocess_nodes", found, query_str="首都")) == 2
        assert passes.texts == 1
