"""Filters: what they mean, by a plain evaluator, and that the embedded engine means the same."""

import math

import pytest
from filtering import filters, matches, metadatas
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vectors import random_output

from m3core import InvalidInput
from m3stores import QdrantStore, Record
from m3stores.filters import parse


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
