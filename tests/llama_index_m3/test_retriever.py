import asyncio
from pathlib import Path

import numpy as np
import pytest
from counting import counted_passes
from llama_index.core import Document
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import ImageNode, IndexNode, MetadataMode, NodeRelationship, QueryBundle, TextNode
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from llama_index.retrievers.m3 import M3Retriever
from m3core import CollectionMismatch, InvalidInput, M3Encoder, StoreWarning
from m3stores import ChromaStore, QdrantStore, Record, TextIndex, migrate

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow.", "东京塔很高。"]


def documents() -> list[Document]:
    return [
        Document(text=text, id_=f"doc {i}", metadata={"n": i, "tags": ["a", str(i)]}) for i, text in enumerate(TEXTS)
    ]


@pytest.fixture(scope="module")
def retriever(mini: M3Encoder) -> M3Retriever:
    return M3Retriever.from_documents(documents(), encoder=mini)


def test_it_finds_what_is_meant(retriever: M3Retriever) -> None:
    best, second = retriever.retrieve("法国首都在哪里？")
    assert best.node.get_content() == TEXTS[0]
    assert best.score > second.score
    assert best.node.metadata == {"n": 0, "tags": ["a", "0"]}
    assert best.node.ref_doc_id == "doc 0"
    assert best.node.relationships[NodeRelationship.SOURCE].node_id == "doc 0"


async def test_explanations_come_on_request(mini: M3Encoder, retriever: M3Retriever) -> None:
    explaining = M3Retriever.from_store(retriever.store, encoder=mini, include_explanation=True)
    query = "法国首都在哪里？"
    best, same = explaining.retrieve(query)[0], (await explaining.aretrieve(query))[0]
    why = best.node.metadata["_m3_explanation"]
    assert why == same.node.metadata["_m3_explanation"]
    assert why["passage"] == best.node.get_content(MetadataMode.EMBED)  # which was encoded
    assert why["score"] == pytest.approx(best.score, abs=5e-3)
    assert sum(why["shares"].values()) == pytest.approx(why["score"])
    assert "_m3_explanation" not in best.node.get_content(MetadataMode.LLM)
    again = M3Retriever.from_documents([best.node], encoder=mini)  # of it nothing is stored
    assert again.retrieve(query)[0].node.metadata == {"n": 0, "tags": ["a", "0"]}


def test_explanations_are_of_what_was_indexed_and_asked(mini: M3Encoder) -> None:
    other = TextIndex(mini, QdrantStore("others"))  # as another program indexes
    other.add([Record("paris", TEXTS[0], {"n": 1})])
    query = QueryBundle("法国首都在哪里？", custom_embedding_strs=["东京", "香蕉"])  # as HyDE asks
    for asked in (query, query.query_str):
        (found,) = M3Retriever.from_store(other.store, encoder=mini, include_explanation=True).retrieve(asked)
        assert found.node.metadata["_m3_explanation"]["score"] == pytest.approx(found.score, abs=5e-3)


def test_an_explanation_of_another_text_is_warned_of(mini: M3Encoder) -> None:
    store = QdrantStore("others")
    TextIndex(mini, store).add([Record("paris", TEXTS[0], {})], texts=["香蕉是黄色的。"])
    with pytest.warns(StoreWarning, match="1 of 1 explanations, of 'paris' for one"):
        M3Retriever.from_store(store, encoder=mini, include_explanation=True).retrieve("法国首都在哪里？")


async def test_async_finds_the_same(retriever: M3Retriever) -> None:
    assert await retriever.aretrieve("yellow fruit") == retriever.retrieve("yellow fruit")


def test_it_ranks_as_the_score_over_what_llama_index_embeds(mini: M3Encoder) -> None:
    nodes = [TextNode(text=text, id_=str(i), metadata={"n": i}) for i, text in enumerate(TEXTS)]
    retriever = M3Retriever.from_documents(nodes, encoder=mini, transformations=[], similarity_top_k=4)
    encoded = mini.encode_documents([node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes])
    scores = mini.encode_queries(["capital of 法国"]).score(encoded)[0]
    found = retriever.retrieve("capital of 法国")
    assert [node.node_id for node in found] == [str(i) for i in np.argsort(-scores)]
    assert [node.score for node in found] == pytest.approx(np.sort(scores)[::-1].tolist(), abs=1e-4)


def test_one_forward_pass_for_each_text_and_each_query(mini: M3Encoder) -> None:
    with counted_passes() as passes:
        retriever = M3Retriever.from_documents(documents(), encoder=mini)
        assert passes.texts == len(TEXTS)
        retriever.retrieve("法国首都在哪里？")
        assert passes.texts == len(TEXTS) + 1
        asyncio.run(retriever.aretrieve("法国首都在哪里？"))
        assert passes.texts == len(TEXTS) + 2


def test_long_documents_are_split(mini: M3Encoder) -> None:
    long = Document(text="。".join(f"第{i}句话说的是城市与交通" for i in range(400)), id_="long")
    splitter = SentenceSplitter(chunk_size=256, chunk_overlap=16)
    retriever = M3Retriever.from_documents([long], encoder=mini, transformations=[splitter], similarity_top_k=3)
    assert retriever.store.count() > 3
    assert {node.node.ref_doc_id for node in retriever.retrieve("交通")} == {"long"}


def test_nodes_of_every_kind_come_back_as_they_were(mini: M3Encoder) -> None:
    nodes = [
        TextNode(text="巴黎", id_="text", metadata={"a": 1}, excluded_embed_metadata_keys=["a"], start_char_idx=3),
        ImageNode(text="东京", id_="image", image_url="http://localhost/x.png"),
        IndexNode(text="香蕉", id_="index", index_id="other"),
        Document(text="首都", id_="document", metadata={"b": {"c": [True]}}),
    ]
    retriever = M3Retriever.from_documents(nodes, encoder=mini, transformations=[], similarity_top_k=4)
    found = {node.node_id: node.node for node in retriever.retrieve("首都")}
    for node in nodes:
        assert found[node.node_id] == node


OPERATORS = [
    (FilterOperator.EQ, "n", 2, {2}),
    (FilterOperator.NE, "n", 2, {0, 1, 3}),
    (FilterOperator.GT, "n", 2, {3}),
    (FilterOperator.GTE, "n", 2, {2, 3}),
    (FilterOperator.LT, "n", 2, {0, 1}),
    (FilterOperator.LTE, "n", 2, {0, 1, 2}),
    (FilterOperator.IN, "n", [1, 3], {1, 3}),
    (FilterOperator.NIN, "n", [1, 3], {0, 2}),
    (FilterOperator.ANY, "tags", ["1", "2"], {1, 2}),
    (FilterOperator.ALL, "tags", ["a", "2"], {2}),
    (FilterOperator.CONTAINS, "tags", "3", {3}),
    (FilterOperator.IS_EMPTY, "missing", None, {0, 1, 2, 3}),
]


@pytest.mark.parametrize(("operator", "key", "value", "expected"), OPERATORS)
def test_metadata_filters(
    mini: M3Encoder, retriever: M3Retriever, operator: FilterOperator, key: str, value: object, expected: set[int]
) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])
    filtered = M3Retriever.from_store(retriever.store, encoder=mini, similarity_top_k=9, filters=filters)
    assert {node.node.metadata["n"] for node in filtered.retrieve("首都")} == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [(FilterCondition.AND, {1}), (FilterCondition.OR, {0, 1, 3}), (FilterCondition.NOT, {2})],
)
def test_metadata_filters_combine(
    mini: M3Encoder, retriever: M3Retriever, condition: FilterCondition, expected: set[int]
) -> None:
    inner = MetadataFilters(filters=[MetadataFilter(key="n", value=2, operator=FilterOperator.LT)])
    filters = MetadataFilters(
        filters=[inner, MetadataFilter(key="n", value=[1, 3], operator=FilterOperator.IN)], condition=condition
    )
    filtered = M3Retriever(retriever.store, mini, similarity_top_k=9, filters=filters)
    assert {node.node.metadata["n"] for node in filtered.retrieve("首都")} == expected


def test_filters_that_no_store_has_are_refused(mini: M3Encoder, retriever: M3Retriever) -> None:
    for operator in (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE):
        filters = MetadataFilters(filters=[MetadataFilter(key="n", value="x", operator=operator)])
        with pytest.raises(InvalidInput, match="no collection can filter 'n' by 'text_match"):
            M3Retriever.from_store(retriever.store, encoder=mini, filters=filters)
    empty = M3Retriever.from_store(retriever.store, encoder=mini, filters=MetadataFilters(filters=[]))
    assert len(empty.retrieve("首都")) == 2
    own = M3Retriever.from_store(retriever.store, encoder=mini, filters={"n": 3})
    assert [node.node.metadata["n"] for node in own.retrieve("首都")] == [3]


def test_what_others_wrote_comes_as_text_nodes(tmp_path: Path, mini: M3Encoder) -> None:
    with QdrantStore("documents", path=tmp_path) as store:
        TextIndex(mini, store).add([Record("任意 id", TEXTS[0], {"a": 1})])
        (found,) = M3Retriever.from_store(store, encoder=mini).retrieve("首都")
    assert isinstance(found.node, TextNode)
    assert (found.node_id, found.node.text, found.node.metadata) == ("任意 id", TEXTS[0], {"a": 1})


def test_langchain_reads_what_llama_index_wrote(mini: M3Encoder, retriever: M3Retriever) -> None:
    from langchain_m3 import M3Retriever as LangChainRetriever

    (document,) = LangChainRetriever.from_store(retriever.store, encoder=mini).invoke("法国首都在哪里？", k=1)
    assert document.page_content == TEXTS[0]
    assert document.metadata == {"n": 0, "tags": ["a", "0"]}


def test_a_collection_may_move_to_chroma(mini: M3Encoder, retriever: M3Retriever) -> None:
    with ChromaStore("moved") as store:
        assert migrate(retriever.store, store) == len(TEXTS)
        moved = M3Retriever.from_store(store, encoder=mini)
        for question in ("法国首都在哪里？", "yellow fruit"):
            for found, before in zip(moved.retrieve(question), retriever.retrieve(question), strict=True):
                assert found.node == before.node
                assert found.score == pytest.approx(before.score, abs=1e-3)


def test_another_encoder_is_refused_at_once(m3_dir: Path, retriever: M3Retriever) -> None:
    with pytest.raises(CollectionMismatch, match="model is 'm3-mini' there"):
        M3Retriever.from_store(retriever.store, encoder=m3_dir)


async def test_what_llama_index_embeds_for_a_query_counts(mini: M3Encoder) -> None:
    """As HyDE does it: dense by other texts than the query."""
    retriever = M3Retriever.from_documents(documents(), encoder=mini, modes=["dense"], similarity_top_k=1)
    plain, hypothetical = (
        QueryBundle("法国首都在哪里？"),
        QueryBundle("法国首都在哪里？", custom_embedding_strs=[TEXTS[2]]),
    )
    given = QueryBundle("法国首都在哪里？", embedding=mini.encode_queries([TEXTS[2]]).dense[0].tolist())
    for retrieve in (retriever.retrieve, lambda bundle: asyncio.run(retriever.aretrieve(bundle))):
        found = [
            (await asyncio.to_thread(retrieve, asked))[0].node.metadata["n"] for asked in (plain, hypothetical, given)
        ]
        assert found == [0, 2, 2]
