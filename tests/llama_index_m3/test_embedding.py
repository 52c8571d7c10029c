import pickle

import pytest
from counting import counted_ticks
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter

from llama_index.embeddings.m3 import M3Embedding
from m3core import InvalidInput, M3Encoder

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow."]


@pytest.fixture(scope="module")
def embedding() -> M3Embedding:
    return M3Embedding("m3-mini")


def test_vectors_are_the_encoders(embedding: M3Embedding, mini: M3Encoder) -> None:
    assert embedding.get_text_embedding_batch(TEXTS) == mini.encode_documents(TEXTS).dense.tolist()
    assert embedding.get_query_embedding("三") == mini.encode_queries(["三"]).dense[0].tolist()
    assert embedding.get_text_embedding("三") == mini.encode_documents(["三"]).dense[0].tolist()


async def test_async_gives_the_same_without_blocking(embedding: M3Embedding) -> None:
    expected = embedding.get_text_embedding_batch(TEXTS)
    assert await embedding.aget_text_embedding_batch(TEXTS) == expected
    assert await embedding.aget_query_embedding("三") == embedding.get_query_embedding("三")
    assert await embedding.aget_text_embedding("三") == embedding.get_text_embedding("三")
    async with counted_ticks() as ticks:
        await embedding.aget_text_embedding_batch([text * 50 for text in TEXTS])
    assert ticks.count >= 5


def test_in_a_vector_store_index(embedding: M3Embedding) -> None:
    index = VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS], embed_model=embedding)
    (best,) = index.as_retriever(similarity_top_k=1).retrieve("法国首都在哪里？")
    assert best.node.get_content() == TEXTS[0]


def test_a_pickled_copy_loads_its_own_model(embedding: M3Embedding) -> None:
    expected = embedding.get_query_embedding("一")
    copy = pickle.loads(pickle.dumps(embedding))
    assert copy.model_name == "m3-mini"
    assert copy.get_query_embedding("一") == expected


def test_in_a_pipeline(embedding: M3Embedding) -> None:
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), embedding])
    nodes = pipeline.run(documents=[Document(text=text) for text in TEXTS])
    assert [node.embedding for node in nodes] == embedding.get_text_embedding_batch(TEXTS)


@pytest.mark.slow
def test_in_a_pipeline_with_worker_processes(embedding: M3Embedding) -> None:
    embedding.get_query_embedding("loaded before it is sent")
    pipeline = IngestionPipeline(transformations=[embedding])
    nodes = pipeline.run(documents=[Document(text=text) for text in TEXTS], num_workers=2)
    assert sorted(node.get_content() for node in nodes) == sorted(TEXTS)
    assert all(len(node.embedding) == 384 for node in nodes)


def test_its_dict_makes_another(embedding: M3Embedding) -> None:
    settings = M3Embedding("m3-mini", max_length=64, query_instruction="query: ").to_dict()
    copy = M3Embedding.from_dict(settings)
    assert copy.class_name() == "M3Embedding"
    assert (copy.max_length, copy.query_instruction) == (64, "query: ")
    assert copy.encoder.fingerprint.instruction == "query: "


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(InvalidInput, match="has no field max_lenght"):
        M3Embedding("m3-mini", max_lenght=3)
