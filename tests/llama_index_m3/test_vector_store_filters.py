"""LlamaIndex's metadata filters of queries, of `get_nodes` and of `delete_nodes`, for every kind of collection."""

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    ExactMatchFilter,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

from m3core import InvalidInput

ALL = {1, 2, 3, 4, 5, 6, 7, 8}
CASES = [
    (FilterOperator.EQ, "n", 2, {2}),
    (FilterOperator.EQ, "country", "jp", {3, 4, 7}),
    (FilterOperator.EQ, "odd", 1.5, {3}),
    (FilterOperator.EQ, "n", "2", set()),
    (FilterOperator.NE, "n", 2, ALL - {2}),
    (FilterOperator.NE, "odd", 1.5, ALL - {3}),
    (FilterOperator.GT, "n", 6, {7, 8}),
    (FilterOperator.GTE, "n", 6, {6, 7, 8}),
    (FilterOperator.LT, "odd", 1.5, {1}),
    (FilterOperator.LTE, "odd", 1.5, {1, 3}),
    (FilterOperator.IN, "n", [1, 3, 99], {1, 3}),
    (FilterOperator.IN, "country", ["fr", "none"], {1, 2, 5, 6, 8}),
    (FilterOperator.NIN, "n", [1, 3, 99], ALL - {1, 3}),
    (FilterOperator.NIN, "country", ["fr", "jp"], {5, 6}),
    (FilterOperator.ANY, "tags", ["tower", "fruit"], {4, 5, 6}),
    (FilterOperator.ANY, "tags", ["nothing"], set()),
    (FilterOperator.ALL, "tags", ["city", "zh"], {1}),
    (FilterOperator.ALL, "tags", ["city"], {1, 2, 3}),
    (FilterOperator.CONTAINS, "tags", "zh", {1, 4, 6}),
    (FilterOperator.IS_EMPTY, "odd", None, {2, 4, 6, 8}),
    (FilterOperator.IS_EMPTY, "tags", None, {8}),
    (FilterOperator.IS_EMPTY, "missing", None, ALL),
]


def one(key: str, value: object, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilter:
    return MetadataFilter(key=key, value=value, operator=operator)


def some(*filters, condition: FilterCondition | None = FilterCondition.AND) -> MetadataFilters:
    return MetadataFilters(filters=list(filters), condition=condition)


def numbers(nodes) -> set[int]:
    return {node.metadata["n"] for node in nodes}


async def test_there_is_a_case_for_every_operator() -> None:
    refused = {FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE}
    assert {case[0] for case in CASES} == set(FilterOperator) - refused


@pytest.mark.parametrize(("operator", "key", "value", "expected"), CASES)
async def test_operators(filled, call, operator, key, value, expected) -> None:
    filters = some(one(key, value, operator))
    assert numbers(await call(filled, "get_nodes", filters=filters)) == expected
    query = VectorStoreQuery(query_str="首都", similarity_top_k=9, filters=filters)
    assert numbers((await call(filled, "query", query)).nodes) == expected


COMBINED = [
    (some(one("country", "fr"), one("n", 2, FilterOperator.GTE)), {2, 8}),
    (some(one("country", "fr"), one("n", 2, FilterOperator.GTE), condition=None), {2, 8}),
    (some(one("n", 1), one("n", 2)), set()),
    (some(one("n", 1), one("n", 2), condition=FilterCondition.OR), {1, 2}),
    (some(one("country", "fr"), condition=FilterCondition.NOT), {3, 4, 5, 6, 7}),
    (some(one("country", "fr"), one("n", 3), condition=FilterCondition.NOT), {4, 5, 6, 7}),
    (some(one("odd", 0.5), condition=FilterCondition.NOT), ALL - {1}),
    (some(one("country", "jp"), some(one("n", 3), condition=FilterCondition.NOT)), {4, 7}),
    (
        some(
            some(one("country", "fr"), one("tags", "en", FilterOperator.CONTAINS)),
            some(one("country", "none"), some(one("n", 5), condition=FilterCondition.NOT)),
            condition=FilterCondition.OR,
        ),
        {2, 6},
    ),
    (some(some(some(some(one("n", 4))))), {4}),
    (some(some(), one("n", 4)), {4}),
    (some(), ALL),
    (MetadataFilters(filters=[ExactMatchFilter(key="n", value=7)]), {7}),
]


@pytest.mark.parametrize(("filters", "expected"), COMBINED)
async def test_and_or_and_not_nested(filled, call, filters, expected) -> None:
    assert numbers(await call(filled, "get_nodes", filters=filters)) == expected
    query = VectorStoreQuery(query_str="首都", similarity_top_k=9, filters=filters)
    assert numbers((await call(filled, "query", query)).nodes) == expected


async def test_what_a_filter_matches_is_deleted(vector_store, corpus, call) -> None:
    await call(vector_store, "add", corpus)
    for filters, left in (
        (some(one("tags", "zh", FilterOperator.CONTAINS), one("n", 4, FilterOperator.GTE)), ALL - {4, 6}),
        (some(one("country", ["fr", "jp"], FilterOperator.IN), condition=FilterCondition.NOT), ALL - {4, 5, 6}),
        (some(one("tags", None, FilterOperator.IS_EMPTY)), {1, 2, 3, 7}),
        (some(some(one("n", 1), one("n", 3), condition=FilterCondition.OR)), {2, 7}),
    ):
        await call(vector_store, "delete_nodes", filters=filters)
        assert numbers(await call(vector_store, "get_nodes")) == left


async def test_a_filter_applies_before_the_best_are_chosen(filled, call) -> None:
    fruit = some(one("tags", "fruit", FilterOperator.CONTAINS))
    for mode in ("default", "hybrid", "semantic_hybrid", "mmr"):
        query = VectorStoreQuery(query_str="Paris", similarity_top_k=2, mode=mode, filters=fruit)
        assert numbers((await call(filled, "query", query, candidates=2)).nodes) == {5, 6}


async def test_numbers_and_texts_are_different_values(vector_store, call) -> None:
    values = [1, "1", 1.5, "1.5", True]
    await call(vector_store, "add", [TextNode(text=f"{v!r}", id_=repr(v), metadata={"v": v}) for v in values])
    for value, expected in ((1, {"1"}), ("1", {"'1'"}), (1.5, {"1.5"}), ("1.5", {"'1.5'"}), (1.0, {"1"})):
        found = await call(vector_store, "get_nodes", filters=some(one("v", value)))
        assert {node.node_id for node in found} == expected


async def test_dots_lead_into_nested_metadata(vector_store, place, call) -> None:
    if not place[0].nested:
        pytest.skip("this kind of store keeps no nested metadata")
    nested = [TextNode(text=f"第{i}年", id_=str(i), metadata={"source": {"year": 2020 + i}}) for i in range(3)]
    await call(vector_store, "add", nested)
    found = await call(vector_store, "get_nodes", filters=some(one("source.year", 2021, FilterOperator.GTE)))
    assert sorted(node.node_id for node in found) == ["1", "2"]


@pytest.mark.parametrize("operator", [FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE])
async def test_text_matches_are_refused(filled, call, operator) -> None:
    filters = some(some(one("country", "f", operator), condition=FilterCondition.NOT))
    message = f"no collection can filter 'country' by '{operator.value}'; there is ==, .*is_empty"
    with pytest.raises(InvalidInput, match=message):
        await call(filled, "get_nodes", filters=filters)
    with pytest.raises(InvalidInput, match=message):
        await call(filled, "query", VectorStoreQuery(query_str="首都", filters=filters))
    with pytest.raises(InvalidInput, match=message):
        await call(filled, "delete_nodes", filters=filters)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (one("n", "6", FilterOperator.GT), r"\$gt of 'n' takes a finite number, not '6'"),
        (one("n", None), r"\$eq of 'n' takes no None"),
        (one("n", 6, FilterOperator.IN), r"\$in of 'n' takes a list, not 6"),
        (one("tags", [], FilterOperator.ALL), "list of at least one"),
        (one("", 1), "names of metadata fields"),
    ],
)
async def test_unusable_values_are_refused(filled, call, condition, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        await call(filled, "get_nodes", filters=some(condition))
