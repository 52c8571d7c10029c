"""LlamaIndex's metadata filters as filters of `m3stores`."""

from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from m3core import InvalidInput

_OPERATORS = {
    FilterOperator.EQ: "$eq",
    FilterOperator.NE: "$ne",
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.IN: "$in",
    FilterOperator.NIN: "$nin",
    FilterOperator.ANY: "$in",  # of a list: one of its items is among the values
    FilterOperator.CONTAINS: "$contains",
}


def filter_of(filters: MetadataFilters | None) -> dict[str, Any] | None:
    """The same filter as a dict; `None` if there is nothing to filter by.

    Raises:
        InvalidInput: an operator that no store of ours has (`text_match`, `text_match_insensitive`).
    """
    if filters is None:
        return None
    parts = [filter_of(f) if isinstance(f, MetadataFilters) else _condition(f) for f in filters.filters]
    parts = [part for part in parts if part is not None]
    if not parts:
        return None
    if filters.condition == FilterCondition.OR:
        return {"$or": parts}
    if filters.condition == FilterCondition.NOT:
        return {"$not": {"$or": parts}}  # none of them
    return {"$and": parts}


def _condition(condition: MetadataFilter) -> dict[str, Any]:
    key, value, operator = condition.key, condition.value, condition.operator
    if operator == FilterOperator.IS_EMPTY:
        return {key: {"$exists": False}}
    if operator == FilterOperator.ALL:
        values = value if isinstance(value, list) else [value]
        return {"$and": [{key: {"$contains": item}} for item in values]}
    if operator not in _OPERATORS:
        raise InvalidInput(f"no collection can filter {key!r} by {operator.value!r}; there is {_names()}")
    return {key: {_OPERATORS[operator]: value}}


def _names() -> str:
    return ", ".join(o.value for o in (*_OPERATORS, FilterOperator.ALL, FilterOperator.IS_EMPTY))
