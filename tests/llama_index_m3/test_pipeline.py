"""`IngestionPipeline` into every kind of collection."""

from pathlib import Path

import pytest
from counting import counted_passes
from llama_index.core import Document
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore

from llama_index.embeddings.m3 import M3Embedding
from llama_index.vector_stores.m3 import M3VectorStore
from m3core import VectorCache
from m3stores import QdrantStore

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow.", "东京塔很高。"]


def documents(texts=TEXTS) -> list[Document]:
    return [Document(text=text, id_=f"doc/{i}", metadata={"n": i}) for i, text in enumerate(texts)]


def into(vector_store: M3VectorStore, strategy: DocstoreStrategy | None = None, *, split: bool = True):
    return IngestionPipeline(
        transformations=[*([SentenceSplitter()] if split else []), vector_store.embed_model],
        vector_store=vector_store,
        **({} if strategy is None else {"docstore": SimpleDocumentStore(), "docstore_strategy": strategy}),
    )


def texts_of(vector_store: M3VectorStore) -> list[str]:
    return sorted(node.get_content() for node in vector_store.get_nodes())


async def test_what_a_pipeline_makes_is_stored(vector_store, call) -> None:
    nodes = await call(into(vector_store), "run", documents=documents())
    assert [node.embedding for node in nodes] == vector_store.embed_model.get_text_embedding_batch(
        [f"n: {i}\n\n{text}" for i, text in enumerate(TEXTS)]
    )
    assert texts_of(vector_store) == sorted(TEXTS)
    for stored in vector_store.get_nodes([node.node_id for node in nodes]):
        assert stored.ref_doc_id == f"doc/{stored.metadata['n']}"


async def test_its_cache_saves_the_second_run(vector_store, call) -> None:
    pipeline = into(vector_store)
    first = await call(pipeline, "run", documents=documents())
    with counted_passes() as passes:
        assert await call(pipeline, "run", documents=documents()) == first
    assert passes.texts == 0
    assert texts_of(vector_store) == sorted(TEXTS)


async def test_upserts_replace_what_has_changed(vector_store, call) -> None:
    pipeline = into(vector_store, DocstoreStrategy.UPSERTS)
    assert len(await call(pipeline, "run", documents=documents())) == 4
    assert await call(pipeline, "run", documents=documents()) == []
    changed = documents(["Lyon is not the capital.", *TEXTS[1:]])
    (node,) = await call(pipeline, "run", documents=changed[:2])
    assert node.get_content() == "Lyon is not the capital."
    assert texts_of(vector_store) == sorted(document.text for document in changed)


@pytest.mark.parametrize("split", [True, False])
async def test_upserts_and_delete_remove_what_is_gone(vector_store, call, split) -> None:
    pipeline = into(vector_store, DocstoreStrategy.UPSERTS_AND_DELETE, split=split)
    await call(pipeline, "run", documents=documents())
    await call(pipeline, "run", documents=[*documents()[:2], Document(text="新的", id_="new")])
    assert texts_of(vector_store) == sorted([*TEXTS[:2], "新的"])


async def test_duplicates_only_skips_what_is_there(vector_store, call) -> None:
    pipeline = into(vector_store, DocstoreStrategy.DUPLICATES_ONLY)
    await call(pipeline, "run", documents=documents()[:2])
    nodes = await call(pipeline, "run", documents=documents()[1:])
    assert [node.get_content() for node in nodes] == TEXTS[2:]
    assert texts_of(vector_store) == sorted(TEXTS)


async def test_nodes_without_embeddings_are_encoded_by_the_store(vector_store, call) -> None:
    pipeline = IngestionPipeline(transformations=[SentenceSplitter()])
    await call(vector_store, "add", await call(pipeline, "run", documents=documents()))
    assert vector_store.client.modes == ("dense", "sparse", "multivector")
    assert texts_of(vector_store) == sorted(TEXTS)


def test_worker_processes_make_all_modes_in_one_pass_for_the_store(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    embed_model = M3Embedding("m3-mini", cache=path)
    vector_store = M3VectorStore(QdrantStore("documents"), embed_model)
    with counted_passes() as passes:
        nodes = into(vector_store, split=False).run(documents=documents(), num_workers=2)
    assert passes.texts == 0
    assert len(VectorCache(path)) == 3 * len(TEXTS)
    assert sorted(node.get_content() for node in nodes) == texts_of(vector_store) == sorted(TEXTS)
    assert vector_store.client.modes == ("dense", "sparse", "multivector")
