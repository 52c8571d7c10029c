"""What every LlamaIndex vector store must do, for every kind of collection."""

import base64
import copy
from pathlib import Path

import pytest
from counting import counted_passes
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from store_home import Home

from llama_index.embeddings.m3 import M3Embedding
from llama_index.vector_stores.m3 import M3VectorStore
from m3core import CollectionMismatch, InvalidInput, StoreWarning, UnsupportedMode

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IDS = ["my-id/ü 1", "11111111-1111-1111-1111-111111111111", "节点 🙂", "x" * 300, "0"]


def named(nodes) -> list[str]:
    return [node.node_id for node in nodes]


def where(key: str, value: object) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value)])


def dense(text: str, k: int = 2) -> VectorStoreQuery:
    return VectorStoreQuery(query_str=text, similarity_top_k=k)


async def test_what_was_added_is_there(vector_store, corpus, call) -> None:
    ids = named(corpus)
    assert await call(vector_store, "add", corpus) == ids
    assert await call(vector_store, "get_nodes", ids) == corpus
    assert await call(vector_store, "get_nodes", [ids[5], "missing", ids[2]]) == [corpus[5], corpus[2]]
    assert await call(vector_store, "get_nodes", []) == []
    assert sorted(named(await call(vector_store, "get_nodes"))) == ids


async def test_nothing_is_added_of_nothing(vector_store, call) -> None:
    assert await call(vector_store, "add", []) == []
    assert await call(vector_store, "get_nodes") == []


async def test_an_empty_store_answers(vector_store, call) -> None:
    assert await call(vector_store, "get_nodes") == []
    assert await call(vector_store, "get_nodes", ["a"], where("n", 1)) == []
    result = await call(vector_store, "query", dense("首都"))
    assert (result.nodes, result.similarities, result.ids) == ([], [], [])
    await call(vector_store, "delete", "doc 1")
    await call(vector_store, "delete_nodes", ["a"])
    await call(vector_store, "delete_nodes", filters=where("n", 1))
    await call(vector_store, "clear")


async def test_any_string_is_an_id(vector_store, call) -> None:
    nodes = [TextNode(text=f"第{i}段话", id_=name) for i, name in enumerate(IDS)]
    assert await call(vector_store, "add", nodes) == IDS
    assert named(await call(vector_store, "get_nodes", IDS)) == IDS
    assert sorted((await call(vector_store, "query", dense("第1段话", k=9))).ids) == sorted(IDS)
    await call(vector_store, "delete_nodes", IDS[:3])
    assert named(await call(vector_store, "get_nodes", IDS)) == IDS[3:]


async def test_adding_again_changes_nothing(vector_store, corpus, call) -> None:
    await call(vector_store, "add", corpus)
    before = await call(vector_store, "query", dense("法国", k=9))
    assert await call(vector_store, "add", corpus) == named(corpus)
    assert vector_store.client.count() == len(corpus)
    assert await call(vector_store, "query", dense("法国", k=9)) == before


async def test_a_node_of_the_same_id_is_replaced(vector_store, corpus, call) -> None:
    await call(vector_store, "add", corpus)
    changed = TextNode(text="火星是一颗红色的行星。", id_="node 1", metadata={"planet": "Mars"})
    await call(vector_store, "add", [changed])
    assert vector_store.client.count() == len(corpus)
    assert await call(vector_store, "get_nodes", ["node 1"]) == [changed]
    assert (await call(vector_store, "query", dense("red planet Mars"))).ids[0] == "node 1"
    assert await call(vector_store, "get_nodes", filters=where("n", 1)) == []


async def test_delete_removes_the_nodes_of_a_document(vector_store, corpus, call) -> None:
    await call(vector_store, "add", corpus)
    await call(vector_store, "delete", "doc 1")
    await call(vector_store, "delete", "node 5")
    await call(vector_store, "delete", "missing")
    assert sorted(named(await call(vector_store, "get_nodes"))) == named(corpus[2:])
    assert not {"node 1", "node 2"} & set((await call(vector_store, "query", dense("Paris", k=9))).ids)


async def test_delete_removes_a_document_that_was_not_split(vector_store, call) -> None:
    documents = [Document(text="巴黎", id_="paris"), Document(text="东京", id_="tokyo")]
    await call(vector_store, "add", documents)
    await call(vector_store, "delete", "paris")
    assert await call(vector_store, "get_nodes") == [documents[1]]


async def test_delete_nodes_by_id_by_filter_or_by_both(vector_store, corpus, call) -> None:
    await call(vector_store, "add", corpus)
    await call(vector_store, "delete_nodes", ["node 1", "missing"])
    assert vector_store.client.count() == 7
    await call(vector_store, "delete_nodes", ["node 2", "node 3"], where("country", "fr"))
    assert named(await call(vector_store, "get_nodes", ["node 2", "node 3"])) == ["node 3"]
    await call(vector_store, "delete_nodes", filters=where("country", "jp"))
    assert sorted(named(await call(vector_store, "get_nodes"))) == ["node 5", "node 6", "node 8"]
    await call(vector_store, "delete_nodes", [])
    await call(vector_store, "delete_nodes", [], where("country", "fr"))
    assert vector_store.client.count() == 3


async def test_delete_nodes_never_deletes_all_by_mistake(vector_store, corpus, call) -> None:
    await call(vector_store, "add", corpus[:1])
    for nothing in ({}, {"filters": MetadataFilters(filters=[])}):
        with pytest.raises(InvalidInput, match="either ids or a filter"):
            await call(vector_store, "delete_nodes", **nothing)
    assert vector_store.client.count() == 1


async def test_clear_removes_all_and_the_store_can_be_filled_again(vector_store, corpus, call) -> None:
    await call(vector_store, "add", corpus)
    await call(vector_store, "clear")
    assert await call(vector_store, "get_nodes") == []
    assert (await call(vector_store, "query", dense("首都"))).ids == []
    await call(vector_store, "add", corpus[:2])
    assert await call(vector_store, "get_nodes", named(corpus)) == corpus[:2]


async def test_get_nodes_by_filter_and_by_ids_and_filter(filled, corpus, call) -> None:
    by_filter = await call(filled, "get_nodes", filters=where("country", "jp"))
    assert sorted(named(by_filter)) == ["node 3", "node 4", "node 7"]
    assert {node.node_id: node for node in by_filter}["node 4"] == corpus[3]
    both = await call(filled, "get_nodes", ["node 1", "node 4", "node 7"], where("country", "jp"))
    assert sorted(named(both)) == ["node 4", "node 7"]
    assert await call(filled, "get_nodes", [], where("country", "jp")) == []
    assert len(await call(filled, "get_nodes", filters=MetadataFilters(filters=[]))) == len(corpus)


async def test_nodes_of_every_kind_come_back_as_they_were(vector_store, tmp_path, call) -> None:
    pixel = tmp_path / "pixel.png"
    pixel.write_bytes(base64.b64decode(PIXEL))
    around = {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc", metadata={"a": 1}, hash="h"),
        NodeRelationship.PREVIOUS: RelatedNodeInfo(node_id="text"),
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="index")],
    }
    nodes = [
        TextNode(
            text="巴黎\n\n  两行 ",
            id_="text",
            metadata={"a": 1},
            excluded_embed_metadata_keys=["a"],
            excluded_llm_metadata_keys=["a", "b"],
            start_char_idx=3,
            end_char_idx=9,
            metadata_template="{key} = {value}",
            text_template="{content} ({metadata_str})",
        ),
        TextNode(text="首都", id_="related", relationships=around),
        ImageNode(text="东京", id_="image", image_url="http://localhost/x.png", image_mimetype="image/png"),
        IndexNode(text="香蕉", id_="index", index_id="other"),
        Document(text="文件", id_="document", metadata={"file_name": "a.txt"}),
        ImageDocument(text="图片", id_="image document", image_path=pixel),
        Node(text_resource=MediaResource(text="节点"), id_="node", metadata={"b": "c"}),
    ]
    await call(vector_store, "add", nodes)
    for found in (
        await call(vector_store, "get_nodes", named(nodes)),
        (await call(vector_store, "query", dense("首都", k=9))).nodes,
    ):
        by_id = {node.node_id: node for node in found}
        assert len(by_id) == len(nodes)
        for node in nodes:
            assert type(by_id[node.node_id]) is type(node)
            assert by_id[node.node_id] == node


async def test_metadata_comes_back_exactly(vector_store, place, call) -> None:
    metadata = {
        "text": "text",
        "id": "id",
        "doc_id": "other",
        "_node_content": "not ours",
        "名字 with.dots/and spaces": "ü\n\t\"'🙂",
        "empty": "",
        "whole": 2**53 + 1,
        "float": 0.1,
        "one": 1.0,
        "true": True,
        "numbers": [1, 2, 3],
        "texts": ["a", "b"],
    }
    if place[0].nested:
        metadata |= {"none": None, "nested": {"a": [{"b": None}], "c": []}, "mixed": [1, "a", True]}
    await call(vector_store, "add", [TextNode(text="元数据", id_="a", metadata=metadata)])
    (got,) = await call(vector_store, "get_nodes", ["a"])
    (queried,) = (await call(vector_store, "query", dense("元数据"))).nodes
    for found in (got, queried):
        assert found.metadata == metadata
        assert {key: type(value) for key, value in found.metadata.items()} == {k: type(v) for k, v in metadata.items()}


async def test_metadata_that_cannot_be_kept_is_refused_before_anything_is_written(vector_store, place, call) -> None:
    good = TextNode(text="好", id_="good")
    refused = {"_m3_node": "x"}, {"set": {1}}, {"nan": float("nan")}
    for metadata in refused if place[0].nested else (*refused, {"nested": {"a": 1}}):
        with pytest.raises(InvalidInput, match=next(iter(metadata))):
            await call(vector_store, "add", [good, TextNode(text="坏", id_="bad", metadata=metadata)])
    assert await call(vector_store, "get_nodes") == []


async def test_an_embedding_is_checked_and_not_kept(vector_store, embed_model, corpus, call) -> None:
    nodes = [node.model_copy() for node in corpus]
    embedded = embed_model(nodes)
    assert await call(vector_store, "add", embedded) == named(corpus)
    assert await call(vector_store, "get_nodes", named(corpus)) == corpus
    other = TextNode(text="别的模型", id_="other", embedding=[1.0, 0.0])
    with pytest.raises(CollectionMismatch, match="embedded by another model"):
        await call(vector_store, "add", [other])
    assert vector_store.client.count() == len(corpus)


async def test_a_node_that_was_changed_after_it_was_embedded_is_encoded_anew(vector_store, embed_model, call) -> None:
    (embedded,) = embed_model([TextNode(text="巴黎是法国的首都。", id_="a")])
    embedded.metadata["题目"] = "香蕉的颜色与味道"
    with pytest.warns(StoreWarning, match="is encoded anew"):
        await call(vector_store, "add", [embedded])
    expected = embed_model.get_text_embedding(embedded.get_content(metadata_mode=MetadataMode.EMBED))
    assert vector_store.client.vectors(["a"], "dense")["a"] == pytest.approx(expected, abs=1e-3)


async def test_a_dense_model_serves_too(home: Home, m3e_dir: Path, call) -> None:
    embed_model = M3Embedding(str(m3e_dir))
    store = M3VectorStore(home.open(), embed_model)
    nodes = embed_model([TextNode(text="中国人说的", id_="a"), TextNode(text="one two", id_="b")])
    with counted_passes() as passes:
        assert await call(store, "add", nodes) == ["a", "b"]
        assert passes.texts == 0
    assert store.client.modes == ("dense",)
    query = VectorStoreQuery(query_str="one two", similarity_top_k=1)
    assert (await call(store, "query", query)).ids == ["b"]
    with pytest.raises(UnsupportedMode, match="no sparse"):
        await call(store, "query", VectorStoreQuery(query_str="one", mode=VectorStoreQueryMode.HYBRID))


async def test_what_is_given_is_not_changed(vector_store, embed_model, call) -> None:
    nodes = [
        TextNode(
            text="巴黎",
            id_="a",
            metadata={"tags": ["x"]},
            embedding=embed_model.get_text_embedding("tags: ['x']\n\n巴黎"),
        ),
        Document(text="东京", id_="b", metadata={"n": 1}),
        Node(text_resource=MediaResource(text="节点"), id_="c"),
        IndexNode(text="香蕉", id_="d", index_id="other", obj=TextNode(text="对象", id_="e")),
    ]
    before = copy.deepcopy(nodes)
    await call(vector_store, "add", nodes)
    query = VectorStoreQuery(query_str="首都", similarity_top_k=3, node_ids=["a", "b"], filters=where("n", 1))
    asked = copy.deepcopy(query)
    await call(vector_store, "query", query)
    assert nodes == before
    assert nodes[3].obj is not None
    assert query == asked


def test_what_llama_index_asks_of_the_class(vector_store, embed_model: M3Embedding) -> None:
    assert M3VectorStore.class_name() == "M3VectorStore"
    assert (vector_store.stores_text, vector_store.is_embedding_query) == (True, True)
    assert vector_store.client.collection in repr(vector_store.client)
    assert vector_store.embed_model is embed_model
