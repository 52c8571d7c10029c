"""One collection, two frameworks."""

import pytest
from langchain_core.documents import Document as LangChainDocument
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery
from store_home import Home
from store_kinds import KINDS, Kind

from langchain_m3 import M3VectorStore as LangChainStore
from llama_index.vector_stores.m3 import M3VectorStore
from m3stores import HybridStore

METADATA = {"n": 1, "名字": "ü", "tags": ["a", "b"], "share": 0.5, "true": True}


@pytest.fixture(
    params=[kind for kind in KINDS if kind.name in ("qdrant on disk", "chroma on disk")], ids=lambda kind: kind.name
)
def store(request: pytest.FixtureRequest, tmp_path) -> HybridStore:
    kind: Kind = request.param
    for package in kind.needs:
        pytest.importorskip(package)
    with kind.place(tmp_path) as opens:
        home = Home(kind, opens)
        yield home.open()
        home.leave()


@pytest.fixture
def langchain(store: HybridStore, embed_model) -> LangChainStore:
    return LangChainStore(store, embed_model)


@pytest.fixture
def llama_index(store: HybridStore, embed_model) -> M3VectorStore:
    return M3VectorStore(store, embed_model)


async def test_llama_index_reads_updates_and_deletes_what_langchain_wrote(langchain, llama_index, call) -> None:
    written = [
        LangChainDocument("巴黎是法国的首都。", id="paris/1", metadata=METADATA),
        LangChainDocument("Tokyo is the capital of Japan.", id="tokyo/1", metadata={"n": 2}),
        LangChainDocument("Bananas are yellow.", id="banana/1", metadata={"n": 3}),
    ]
    langchain.add_documents(written)
    read = await call(llama_index, "get_nodes", ["paris/1"])
    assert read == [TextNode(text="巴黎是法国的首都。", id_="paris/1", metadata=METADATA)]
    query = VectorStoreQuery(query_str="法国的首都在哪里？", mode="semantic_hybrid", similarity_top_k=1)
    assert (await call(llama_index, "query", query)).nodes == read
    where = MetadataFilters(filters=[MetadataFilter(key="n", value=2)])
    assert [node.node_id for node in await call(llama_index, "get_nodes", filters=where)] == ["tokyo/1"]

    read[0].text = "巴黎是法国最大的城市。"
    await call(llama_index, "add", read)
    await call(llama_index, "delete_nodes", filters=where)
    await call(llama_index, "delete_nodes", ["banana/1"])
    assert langchain.similarity_search("capital", k=9) == [
        LangChainDocument("巴黎是法国最大的城市。", id="paris/1", metadata=METADATA)
    ]


async def test_langchain_reads_updates_and_deletes_what_llama_index_wrote(langchain, llama_index, call) -> None:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}
    nodes = [
        TextNode(text="巴黎是法国的首都。", id_="paris/1", metadata=METADATA, relationships=source),
        TextNode(text="Tokyo is the capital of Japan.", id_="tokyo/1", metadata={"n": 2}, relationships=source),
        TextNode(text="Bananas are yellow.", id_="banana/1", metadata={"n": 3}),
    ]
    await call(llama_index, "add", nodes)
    (read,) = langchain.get_by_ids(["paris/1"])
    assert read == LangChainDocument("巴黎是法国的首都。", id="paris/1", metadata=METADATA)
    assert langchain.similarity_search("法国的首都在哪里？", k=1) == [read]
    assert [found.id for found in langchain.similarity_search("capital", k=9, filter={"n": 2})] == ["tokyo/1"]

    langchain.add_documents([LangChainDocument("巴黎是法国最大的城市。", id=read.id, metadata=read.metadata)])
    langchain.delete(["banana/1"])
    updated = nodes[0].model_copy(deep=True)
    updated.set_content("巴黎是法国最大的城市。")  # still of its document
    assert await call(llama_index, "get_nodes", ["paris/1", "tokyo/1", "banana/1"]) == [updated, nodes[1]]
    await call(llama_index, "delete", "doc")
    assert await call(llama_index, "get_nodes") == []


def test_an_update_by_langchain_leaves_a_node_with_its_document(store: HybridStore, embed_model) -> None:
    llama, langchain = M3VectorStore(store, embed_model), LangChainStore(store, embed_model)
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}
    llama.add([TextNode(text="巴黎", id_="a", relationships=source)])
    (found,) = langchain.similarity_search("巴黎")
    found.metadata["seen"] = True
    langchain.add_documents([found])
    (node,) = llama.get_nodes(["a"])
    assert (node.ref_doc_id, node.metadata) == ("doc", {"seen": True})
    llama.delete("doc")
    assert store.count() == 0


async def test_llama_index_deletes_a_langchain_document_by_its_id(store: HybridStore, embed_model) -> None:
    LangChainStore(store, embed_model).add_texts(["one", "two"], ids=["a", "b"])
    llama = M3VectorStore(store, embed_model)
    llama.delete("a")
    assert store.count() == 1
    await llama.adelete("b")
    assert store.count() == 0
