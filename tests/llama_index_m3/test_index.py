"""`VectorStoreIndex` over every kind of collection."""

from pathlib import Path

import pytest
from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.memory import VectorMemory
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import IndexNode, TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from llama_index.postprocessor.m3 import M3Rerank
from llama_index.vector_stores.m3 import M3VectorStore
from m3core import CollectionMismatch
from m3stores import QdrantStore

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow.", "东京塔很高。"]
MODES = ["default", "sparse", "hybrid", "semantic_hybrid", "mmr"]


def documents(texts=TEXTS) -> list[Document]:
    return [Document(text=text, id_=f"doc/{i}", metadata={"n": i}) for i, text in enumerate(texts)]


def index_of(vector_store: M3VectorStore, some=(), **options) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=vector_store)
    embed_model = options.pop("embed_model", vector_store.embed_model)
    return VectorStoreIndex.from_documents(some, storage_context=context, embed_model=embed_model, **options)


def texts_of(vector_store: M3VectorStore) -> list[str]:
    return sorted(node.get_content() for node in vector_store.get_nodes())


async def test_documents_go_in_and_come_out(vector_store, call) -> None:
    index_of(vector_store, documents()[:2])
    index = index_of(vector_store, documents()[2:], use_async=True)
    assert texts_of(vector_store) == sorted(TEXTS)
    for mode in MODES:
        retriever = index.as_retriever(vector_store_query_mode=mode, similarity_top_k=2)
        best, *_ = await call(retriever, "retrieve", "法国的首都在哪里？")
        assert best.node.get_content() == TEXTS[0]
        assert (best.node.ref_doc_id, best.node.metadata) == ("doc/0", {"n": 0})
        assert best.score == max(found.score for found in await call(retriever, "retrieve", "法国的首都在哪里？"))


async def test_a_retriever_passes_its_options_on(vector_store, call) -> None:
    index = index_of(vector_store, documents())
    later = MetadataFilters(filters=[MetadataFilter(key="n", value=1, operator=FilterOperator.GTE)])
    found = await call(index.as_retriever(similarity_top_k=9, filters=later), "retrieve", "首都")
    assert {node.metadata["n"] for node in found} == {1, 2, 3}
    found = await call(index.as_retriever(similarity_top_k=9, doc_ids=["doc/1", "doc/2"]), "retrieve", "首都")
    assert {node.node.ref_doc_id for node in found} == {"doc/1", "doc/2"}
    options = {"similarity_top_k": 1, "vector_store_query_mode": "hybrid"}
    found = await call(index.as_retriever(hybrid_top_k=3, **options), "retrieve", "首都")
    assert len(found) == 3
    balances = [index.as_retriever(alpha=alpha, **options) for alpha in (0.0, 1.0)]
    lexical, dense = [(await call(retriever, "retrieve", "首都 capital"))[0].score for retriever in balances]
    assert lexical < dense
    spread = index.as_retriever(
        similarity_top_k=4, vector_store_query_mode="mmr", vector_store_kwargs={"mmr_threshold": 0.0}
    )
    plain = index.as_retriever(similarity_top_k=4)
    query = "capital of Japan, Tokyo, 东京"
    by_difference = [node.node_id for node in await call(spread, "retrieve", query)]
    assert by_difference != [node.node_id for node in await call(plain, "retrieve", query)]


async def test_documents_are_inserted_updated_and_deleted(vector_store, call) -> None:
    index = index_of(vector_store, documents()[:2])
    await call(index, "insert", documents()[2])
    assert texts_of(vector_store) == sorted(TEXTS[:3])
    await call(index, "update_ref_doc", Document(text="火星是红色的。", id_="doc/0"))
    assert texts_of(vector_store) == sorted([*TEXTS[1:3], "火星是红色的。"])
    await call(index, "delete_ref_doc", "doc/1", delete_from_docstore=True)
    assert texts_of(vector_store) == sorted([TEXTS[2], "火星是红色的。"])
    (best,) = await call(index.as_retriever(similarity_top_k=1), "retrieve", "red planet Mars")
    assert best.node.get_content() == "火星是红色的。"


async def test_refreshing_changes_what_has_changed(vector_store, call) -> None:
    index = index_of(vector_store, documents()[:2])
    before = vector_store.get_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="n", value=0)]))
    changed = documents([TEXTS[0], "Kyoto was the capital.", TEXTS[2]])
    assert await call(index, "refresh_ref_docs", changed) == [False, True, True]
    assert await call(index, "refresh_ref_docs", changed) == [False, False, False]
    assert texts_of(vector_store) == sorted(document.text for document in changed)
    assert vector_store.get_nodes([node.node_id for node in before]) == before


async def test_nodes_are_inserted_and_deleted(vector_store, call) -> None:
    index = index_of(vector_store)
    assert await call(index.as_retriever(), "retrieve", "nothing yet") == []
    nodes = [TextNode(text=text, id_=f"my id/{i}") for i, text in enumerate(TEXTS)]
    await call(index, "insert_nodes", nodes)
    await call(index, "delete_nodes", ["my id/1", "my id/2"])
    assert vector_store.get_nodes([node.node_id for node in nodes]) == [nodes[0], nodes[3]]
    found = await call(index.as_retriever(similarity_top_k=9), "retrieve", "Tokyo")
    assert {node.node_id for node in found} == {"my id/0", "my id/3"}


async def test_a_long_document_is_split_and_deleted_whole(vector_store, call) -> None:
    long = Document(text="。".join(f"第{i}句话说的是城市与交通" for i in range(60)), id_="long")
    splitter = SentenceSplitter(chunk_size=128, chunk_overlap=8)
    index = index_of(vector_store, [*documents(), long], transformations=[splitter])
    assert vector_store.client.count() > len(TEXTS) + 3
    found = await call(index.as_retriever(similarity_top_k=3), "retrieve", "城市与交通")
    assert {node.node.ref_doc_id for node in found} == {"long"}
    await call(index, "delete_ref_doc", "long")
    assert texts_of(vector_store) == sorted(TEXTS)


async def test_a_collection_is_there_again_when_it_is_opened_again(home, embed_model, call) -> None:
    if not home.kind.lasting:
        pytest.skip("a temporary collection is gone")
    with home.open() as store:
        index = index_of(M3VectorStore(store, embed_model), documents())
        before = [index.as_retriever(vector_store_query_mode=mode).retrieve("首都") for mode in MODES]
    again = M3VectorStore(home.open(), embed_model)
    index = VectorStoreIndex.from_vector_store(again, embed_model)
    for mode, found in zip(MODES, before, strict=True):
        assert await call(index.as_retriever(vector_store_query_mode=mode), "retrieve", "首都") == found
    await call(index, "delete_ref_doc", "doc/0")
    await call(index, "insert", Document(text="新的文件", id_="doc/0"))
    assert texts_of(again) == sorted([*TEXTS[1:], "新的文件"])


async def test_an_index_with_another_model_is_refused(vector_store, call) -> None:
    index = index_of(vector_store, embed_model=MockEmbedding(embed_dim=8))
    with pytest.raises(CollectionMismatch, match=r"8 wide, .* Give the index .*embed_model=vector_store.embed_model"):
        await call(index, "insert", documents()[0])
    assert vector_store.get_nodes() == []


async def test_a_collection_of_another_model_is_refused(vector_store, other_model, call) -> None:
    vector_store.add([TextNode(text="巴黎")])
    other = M3VectorStore(vector_store.client, other_model)
    index = VectorStoreIndex.from_vector_store(other, other.embed_model)
    with pytest.raises(CollectionMismatch, match="max_length is 498 there"):
        await call(index, "insert", documents()[0])
    for mode in MODES:
        with pytest.raises(CollectionMismatch, match="max_length is 498 there"):
            await call(index.as_retriever(vector_store_query_mode=mode), "retrieve", "首都")


async def test_it_is_saved_with_its_storage_context(tmp_path: Path, embed_model, call) -> None:
    with QdrantStore("documents", path=tmp_path / "qdrant") as store:
        index = index_of(M3VectorStore(store, embed_model), documents())
        index.storage_context.persist(tmp_path / "context")
    with QdrantStore("documents", path=tmp_path / "qdrant") as store:
        context = StorageContext.from_defaults(
            vector_store=M3VectorStore(store, embed_model), persist_dir=str(tmp_path / "context")
        )
        loaded = load_index_from_storage(context, embed_model=embed_model)
        assert loaded.index_id == index.index_id
        assert len(await call(loaded.as_retriever(similarity_top_k=9), "retrieve", "首都")) == len(TEXTS)


async def test_an_index_node_leads_to_its_object(embed_model, call) -> None:
    objects = [
        IndexNode(text="about cities", index_id="cities", obj=TextNode(text=TEXTS[0])),
        IndexNode(text="about fruit", index_id="fruit", obj=TextNode(text=TEXTS[2])),
    ]
    context = StorageContext.from_defaults(vector_store=M3VectorStore(QdrantStore("objects"), embed_model))
    index = VectorStoreIndex(objects=objects, storage_context=context, embed_model=embed_model)
    (found,) = await call(index.as_retriever(similarity_top_k=1), "retrieve", "fruit")
    assert found.node.get_content() == TEXTS[2]


async def test_a_query_engine_answers_from_reranked_nodes(embed_model, call) -> None:
    index = index_of(M3VectorStore(QdrantStore("documents"), embed_model), documents())
    rerank = M3Rerank("m3-mini", max_length=498, top_n=1)
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=4, node_postprocessors=[rerank])
    response = await call(engine, "query", "法国的首都在哪里？")
    assert [found.node.get_content() for found in response.source_nodes] == [TEXTS[0]]
    assert TEXTS[0] in response.response


async def test_a_vector_memory_remembers(vector_store, place) -> None:
    if not place[0].nested:
        pytest.skip("a memory's metadata is nested")
    memory = VectorMemory.from_defaults(
        vector_store, vector_store.embed_model, retriever_kwargs={"similarity_top_k": 1}
    )
    for role, text in (("user", TEXTS[0]), ("user", TEXTS[2]), ("assistant", "Ripe ones are.")):
        memory.put(ChatMessage.from_str(text, role))
    assert [message.content for message in memory.get("yellow fruit")] == [TEXTS[2], "Ripe ones are."]
    memory.reset()
    assert vector_store.get_nodes() == []
