"""Filters: what they mean, by a plain evaluator, and that the embedded engine means the same."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vectors import random_output

from m3core import InvalidInput
from m3stores import QdrantStore, Record
from m3stores.filters import parse

KEYS = ["a", "b", "年份", "with space", "nest.x", "nest.y.z"]
scalars = st.one_of(
    st.sampled_from(["", "x", "y", "中", "true", "1"]),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, -1.5, 1.0, 2**53 + 0.0]),
    st.sampled_from([2**53 + 1, 2**60, 2**60 + 1]),
)
values = st.one_of(scalars, st.none(), st.lists(scalars, max_size=3))
metadatas = st.fixed_dictionaries(
    {},
    optional={
        "a": values,
        "b": values,
        "年份": values,
        "with space": values,
        "nest.x": values,
        "nest": st.fixed_dictionaries(
            {}, optional={"x": values, "y": st.fixed_dictionaries({}, optional={"z": values})}
        ),
    },
)
numbers = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 1.0, -1.5]))
conditions = st.one_of(
    scalars,
    st.dictionaries(st.sampled_from(["$eq", "$ne", "$contains"]), scalars, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), numbers, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(scalars, max_size=3), min_size=1, max_size=2),
    st.fixed_dictionaries({"$exists": st.booleans()}),
)
filters = st.recursive(
    st.dictionaries(st.sampled_from(KEYS), conditions, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
    ),
    max_leaves=4,
)


def matches(wanted: dict, metadata: dict) -> bool:
    """What a filter means, in plain Python."""
    return all(_holds(key, value, metadata) for key, value in wanted.items())


def _holds(key: str, wanted: object, metadata: dict) -> bool:
    if key == "$and":
        return all(matches(part, metadata) for part in wanted)
    if key == "$or":
        return any(matches(part, metadata) for part in wanted)
    if key == "$not":
        return not matches(wanted, metadata)
    items = _items(key, metadata)
    if not isinstance(wanted, dict):
        wanted = {"$eq": wanted}
    return all(_condition(operator, operand, items) for operator, operand in wanted.items())


def _items(key: str, metadata: dict) -> list:
    value: object = metadata
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    both = [value] if "." not in key else [value, metadata.get(key)]  # a name may have dots in it
    items = [item for one in both for item in (one if isinstance(one, list) else [one])]
    return [item for item in items if item is not None]


def _condition(operator: str, operand: object, items: list) -> bool:
    match operator:
        case "$eq" | "$contains":
            return any(_same(item, operand) for item in items)
        case "$in":
            return any(_same(item, one) for item in items for one in operand)
        case "$ne":
            return not _condition("$eq", operand, items)
        case "$nin":
            return not _condition("$in", operand, items)
        case "$exists":
            return bool(items) == operand
    compare = {
        "$gt": lambda a: a > operand,
        "$gte": lambda a: a >= operand,
        "$lt": lambda a: a < operand,
        "$lte": lambda a: a <= operand,
    }[operator]
    return any(compare(item) for item in items if isinstance(item, int | float) and not isinstance(item, bool))


def _same(a: object, b: object) -> bool:
    if isinstance(a, bool) or isinstance(b, bool) or isinstance(a, str) or isinstance(b, str):
        return type(a) is type(b) and a == b
    return a == b if isinstance(b, int) and abs(b) > 2**53 else float(a) == float(b)


@pytest.fixture(scope="module")
def store():
    with QdrantStore("filters") as store:
        yield store


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(metadatas, min_size=1, max_size=8), st.lists(filters, min_size=1, max_size=5))
def test_the_engine_matches_what_the_evaluator_matches(store: QdrantStore, kept: list[dict], asked: list[dict]) -> None:
    store.delete([str(i) for i in range(8)])
    store.upsert(
        [Record(str(i), "", metadata) for i, metadata in enumerate(kept)], random_output(len(kept), modes=("sparse",))
    )
    for wanted in asked:
        assert store.count(wanted) == sum(matches(wanted, metadata) for metadata in kept), wanted


def nested(depth: int) -> dict:
    wanted: dict = {"a": 1}
    for _ in range(depth):
        wanted = {"$not": wanted}
    return wanted


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"a": {"$regex": "x"}}, r"unknown operator '\$regex' for 'a'.*\$exists"),
        ({"$nor": []}, r"unknown operator '\$nor'.*\$and, \$or and \$not"),
        ({"a": {}}, "is an empty dict"),
        ({"a": None}, r"takes no None; ask for {'\$exists': False}"),
        ({"a": {"$gt": "x"}}, "takes a finite number, not 'x'"),
        ({"a": {"$lt": True}}, "takes a finite number"),
        ({"a": {"$gt": math.nan}}, "takes a finite number"),
        ({"a": math.inf}, "takes a finite number"),
        ({"a": {"$in": "xy"}}, "takes a list"),
        ({"a": [1, 2]}, r"a text, a number, True or False, not \[1, 2\]"),
        ({"a": {"$exists": 1}}, "takes True or False"),
        ({"$and": []}, "a list of at least one filter"),
        ({"$or": {"a": 1}}, "a list of at least one filter"),
        ({"$not": [1]}, "takes a filter"),
        ({"": 1}, "names of metadata fields"),
        ({3: 1}, "names of metadata fields"),
        (["a"], "a filter is a dict"),
        ({"a": 2**63}, "takes a number of 64 bits"),
        ({"a": {"$gt": 10**400}}, "takes a number of 64 bits"),
        (nested(17), "may be nested 16 levels deep"),
        (nested(5000), "may be nested 16 levels deep"),
    ],
)
def test_what_is_no_filter_is_refused_with_what_would_be(wanted, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse(wanted)


def test_keys_that_the_engine_cannot_spell_are_refused(store: QdrantStore) -> None:
    with pytest.raises(InvalidInput, match="cannot filter by the key"):
        store.count({'quo"te': 1})
