"""What Chroma holds of metadata, and that its filters mean what the plain evaluator says."""

from typing import Any

import chromadb
import pytest
from filtering import KEYS, bounds, filters, integers, matches, scalars, texts
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vectors import random_output, records

from m3core import InvalidInput
from m3stores.chroma import ChromaStore, Where
from m3stores.chroma.filters import chroma_where, needs_helpers
from m3stores.chroma.metadata import decode, encode
from m3stores.filters import And, Or, Range, parse

short = bounds.filter(lambda number: abs(number) <= 2**53)
lists = st.one_of(st.lists(kind, max_size=3) for kind in (texts, st.booleans(), integers, short))
values = st.one_of(scalars, st.none(), lists)
metadatas = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, values))
EDGES = [
    -(2**63),
    -(2**53) - 1,
    -(2**53),
    -1,
    0,
    1,
    2**53,
    2**53 + 1,
    2**53 + 2,
    2**63 - 512,
    2**63 - 1,
    10**15,
    2**53 - 1,
]
NUMBERS = [
    *EDGES,
    *map(float, EDGES),
    -1.5,
    -0.5,
    -0.0,
    0.5,
    1.5,
    5e-324,
    1 / 3,
    0.1 + 0.2,
    0.9999999999999999,
    1e300,
    -1e300,
    1.7976931348623157e308,
]


@pytest.fixture(scope="module")
def client():
    return chromadb.EphemeralClient()


@pytest.fixture
def collection(client):
    yield client.create_collection("filters", embedding_function=None)
    client.delete_collection("filters")


def keep(collection: chromadb.Collection, kept: list[dict]) -> None:
    """Stores these in place of all there is."""
    if collection.count():
        collection.delete(collection.get(include=[])["ids"])
    ids = [str(i) for i in range(len(kept))]
    stored: list[Any] = [encode(metadata) for metadata in kept]
    collection.add(ids, [[1.0, 0.0]] * len(kept), stored)


def found(collection: chromadb.Collection, wanted: dict) -> list[int]:
    return sorted(int(i) for i in collection.get(where=chroma_where(parse(wanted)), include=[])["ids"])


@pytest.fixture(scope="module")
def check(client):
    collection = client.create_collection("property", embedding_function=None)

    def run(kept: list[dict], asked: list[dict]) -> None:
        keep(collection, kept)
        for wanted in asked:
            assert found(collection, wanted) == [i for i, one in enumerate(kept) if matches(wanted, one)], wanted

    return run


@settings(max_examples=150, deadline=None)
@given(kept=st.lists(metadatas, min_size=1, max_size=8), asked=st.lists(filters, min_size=1, max_size=5))
def test_chroma_matches_what_the_evaluator_matches(check, kept: list[dict], asked: list[dict]) -> None:
    check(kept, asked)


def test_every_comparison_of_numbers_at_the_edges(check) -> None:
    kept = [{"a": number} for number in NUMBERS] + [
        {"a": [n]} for n in NUMBERS if isinstance(n, int) or abs(n) <= 2**53
    ]
    kept += [
        {"a": [-1, 1, 2**53 + 1]},
        {"a": [2, 0.5, 1]},
        {"a": True},
        {"a": [False]},
        {"a": "1"},
        {"a": []},
        {"a": None},
        {},
    ]
    plain = [{"a": {operator: n}} for operator in ("$eq", "$gt", "$gte", "$lt", "$lte") for n in NUMBERS]
    check(kept, plain + [{"$not": wanted} for wanted in plain])


def test_a_query_takes_the_filter_too(collection) -> None:
    keep(collection, [{"year": 2019}, {"year": 2020.5}, {"year": [1990, 2030]}])
    where = chroma_where(parse({"$not": {"year": {"$lt": 2000}}}))
    assert sorted(collection.query([[1.0, 0.0]], n_results=3, where=where)["ids"][0]) == ["0", "1"]


@settings(max_examples=300, deadline=None)
@given(metadatas)
@example({"a": [1, 2.0], "b": 2.0**60, "年份": 1e300})
def test_metadata_comes_back_as_it_was(metadata: dict) -> None:
    assert repr(sorted(decode(encode(metadata)).items())) == repr(sorted(metadata.items()))


def test_chroma_gives_back_what_it_was_given(collection) -> None:
    kept = {
        "i": 1,
        "f": 1.0,
        "b": True,
        "n": None,
        "e": [],
        "s": "",
        "mixed": [3, 1.0, 3],
        "l": ["b", "a", "b"],
        "年": 0.1,
        "exact": 0.9999999999999999,
        "thirds": [1 / 3, 2.0],
        "zero": -0.0,
    }
    keep(collection, [kept, {}])
    held = [decode(one) for one in collection.get()["metadatas"]]
    assert [repr(sorted(one.items())) for one in held] == [repr(sorted(kept.items())), "[]"]


def test_a_deleted_collection_leaves_nothing_behind(client) -> None:
    # Chroma gives its lists to the next one's records: https://github.com/chroma-core/chroma/issues/7594
    for kept in [{"tags": ["x"], "n": [1, 2], "one": ["x"]}] * 3, [{}, {"one": 1}, {"tags": ["y"]}]:
        collection = client.create_collection("again", embedding_function=None)
        keep(collection, kept)
        seen = [decode(one) for one in collection.get()["metadatas"]]
        there = [found(collection, {"$not": {key: {"$exists": False}}}) for key in ("tags", "n", "one")]
        ones = [found(collection, {"tags": "x"}), found(collection, {"n": 1}), found(collection, {"one": {"$ne": "x"}})]
        client.delete_collection("again")
    assert seen == kept
    assert there == [[2], [], [1]]
    assert ones == [[], [], [0, 1, 2]]


def test_what_others_wrote_is_read_as_it_is() -> None:
    assert decode({"year": 2020, "tags": ["x"]}) == {"year": 2020, "tags": ["x"]}


def test_adapters_may_keep_fields_of_their_own() -> None:
    assert decode(encode({"_m3_node": "{}"})) == {"_m3_node": "{}"}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"a": {}}, "no metadata with dicts in it; flatten 'a'"),
        ({"a": [{"b": 1}]}, "no metadata with dicts in it; flatten 'a'"),
        ({"a": [1, None]}, "no lists with None in them; change 'a'"),
        ({"a": [[1]]}, "no lists with lists in them; change 'a'"),
        ({"a": [1, "x"]}, "several types in them; 'a' has str and int: make them one"),
        ({"a": [True, 1]}, "several types in them; 'a' has bool and int"),
        ({"a": [0.5, 2**53 + 1]}, "list with floats has no numbers beyond 2.53; change 'a'"),
        ({"a": [1e300]}, "list with floats has no numbers beyond 2.53; change 'a'"),
        ({"": 1}, "empty key; name the field"),
        ({"#a": 1}, "may begin with '#'; rename '#a'"),
        ({"$a": 1}, r"may begin with '\$'; rename '\$a'"),
        ({"chroma:document": 1}, "may begin with 'chroma:'; rename 'chroma:document'"),
        ({"_m3_chroma_json": 1}, "may begin with '_m3_chroma_'; rename '_m3_chroma_json'"),
        ({"b": "", "a": ["x"] * 4997}, "up to 5000 values.*comes to 5001 .*most are in 'a': shorten it"),
    ],
)
def test_what_chroma_cannot_hold_is_refused_with_what_to_do(metadata: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        encode(metadata)


def test_as_much_as_is_taken_fits(collection) -> None:
    keep(collection, [{"a": ["x"] * 4998}, {str(i): "x" for i in range(2499)}, {"b": [1] * 2498}])
    assert found(collection, {"a": "x"}) == [0]
    assert found(collection, {"2498": "x"}) == [1]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"#document": "x"}, "may begin with '#'"),
        ({"chroma:document": {"$ne": "x"}}, "may begin with 'chroma:'"),
        ({"_m3_chroma_kind:a": "text"}, "may begin with '_m3_chroma_'"),
        ({"a": {"$in": [str(i) for i in range(899)]}}, "comes to 901 conditions, and Chroma takes 900"),
    ],
)
def test_filters_that_chroma_cannot_answer_are_refused(wanted: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        chroma_where(parse(wanted))


def test_a_range_has_one_bound() -> None:
    for several in (Range(("a",)), Range(("a",), above=1.0, below=2.0)):
        with pytest.raises(InvalidInput, match="one bound; join two for 'a' with And"):
            chroma_where(several)


def test_the_most_conditions_and_the_deepest_filter_are_answered(collection) -> None:
    keep(collection, [{"a": "1"}, {"a": ["897"]}, {"a": 7}, {}])
    assert found(collection, {"a": {"$in": [str(i) for i in range(898)]}}) == [0, 1]
    assert found(collection, {"a": {"$nin": list(range(898))}}) == [0, 1, 3]
    deepest: dict = {"a": {"$gt": 6, "$lt": 8}, "b": {"$exists": False}}
    for level in range(16):
        deepest = {"$or": [deepest, {"a": level}]} if level % 2 else {"$and": [deepest, {"b": {"$ne": level}}]}
    assert found(collection, deepest) == [2]


@pytest.mark.parametrize("always", [{}, {"a": {"$nin": []}}, {"$or": [{"a": 1}, {}]}, {"$not": {"a": {"$in": []}}}])
def test_a_filter_that_always_holds_is_none(always: dict) -> None:
    assert chroma_where(parse(always)) is None
    assert chroma_where(And(())) is None
    assert not needs_helpers(parse(always))


def test_a_filter_that_never_holds_finds_nothing(collection) -> None:
    keep(collection, [{"a": 1}, {}])
    assert found(collection, {"$not": {}}) == []
    assert collection.get(where=chroma_where(Or(())))["ids"] == []
    assert not needs_helpers(Or(()))


@pytest.mark.parametrize("asks", [{"a": "x"}, {"a": {"$gt": 1}}, {"$not": {"a": {"$exists": False}}}])
def test_what_asks_anything_needs_the_helper_fields(asks: dict) -> None:
    assert needs_helpers(parse(asks))


def test_a_filter_of_chromas_own_may_have_ids() -> None:
    with ChromaStore("test") as store:
        store.upsert(records(10), random_output(10))
        ids = ("doc 1", "doc 2", "doc 3", "doc 3", "missing")
        for where, found in [
            (Where(ids=ids), {"doc 1", "doc 2", "doc 3"}),
            (Where({"side": "pro"}, ids=ids), {"doc 1", "doc 3"}),
            (Where(document={"$contains": "3"}, ids=ids), {"doc 3"}),
            (Where(ids=()), set()),
        ]:
            assert store.count(where) == len(found)
            assert {record.id for page in store.scroll(filter=where, size=2) for record in page.records} == found
            assert {hit.id for hit in store.search(random_output(1), filter=where)[0]} == found
            assert {h.id for h in store.search(random_output(1), filter=where, ids=["doc 3"])[0]} == found & {"doc 3"}
        store.delete(filter=Where(ids=ids))
        assert store.count() == 7
