"""What every kind of store refuses: before anything is written, and with a message that names what is wrong."""

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from store_checks import check_contents
from store_kinds import Kind, Open, unique_name
from store_reference import Reference, made
from vectors import fingerprint, random_output, records

from m3core import (
    CollectionMismatch,
    Fingerprint,
    InvalidInput,
    M3Output,
    Record,
    SparseVector,
    StoreError,
    UnsupportedMode,
)
from m3stores import HybridStore

N = 12


@pytest.fixture(scope="session")
def session_store(place: tuple[Kind, Open]) -> Iterator[tuple[HybridStore, Reference]]:
    kind, opens = place
    reference = Reference(kind.half, kind.half_queries)
    with opens(unique_name()) as store:
        store.upsert(records(N), made(N))
        reference.upsert(records(N), made(N))
        yield store, reference
        store.drop()


@pytest.fixture
def kept(session_store: tuple[HybridStore, Reference]) -> Iterator[HybridStore]:
    """A store with some records, which are the same after the test."""
    store, reference = session_store
    schema = store.schema
    yield store
    assert store.schema == schema
    check_contents(store, reference)


def broken(what: str) -> M3Output:
    """Of three texts; the second is not to be stored."""
    output = made(3, seed=8)
    weights = output.sparse[1].values
    match what:
        case "dense NaN":
            output.dense[1, 2] = np.nan
        case "dense infinity":
            output.dense[1, 2] = -np.inf
        case "dense beyond float16":
            output.dense[1, 2] = 1e5
        case "sparse NaN":
            weights[0] = np.nan
        case "sparse infinity":
            weights[0] = np.inf
        case "duplicate ids":
            output.sparse[1] = SparseVector([1, 7], [0.5, 0.5])
            output.sparse[1].indices[0] = 7
        case "negative ids":
            output.sparse[1].indices[0] = -1
        case "mismatched lengths":
            object.__setattr__(output.sparse[1], "values", weights[:-1])
        case "multivector NaN":
            output.multivector[1][0, 0] = np.nan
        case "multivector beyond float16":
            output.multivector[1][0, 0] = -1e5
        case "multivector of objects":
            output.multivector[1] = output.multivector[1].astype(object)
        case "no rows":
            output.multivector[1] = output.multivector[1][:0]
        case "too many rows":
            output.multivector[1] = np.ones((2**17, 8), dtype=np.float32)
    return output


BROKEN = [
    "dense NaN", "dense infinity", "dense beyond float16", "sparse NaN", "sparse infinity", "duplicate ids",
    "negative ids", "mismatched lengths", "multivector NaN", "multivector beyond float16", "multivector of objects",
    "no rows", "too many rows",
]  # fmt: skip


def test_bad_vectors_make_no_collection(fresh: HybridStore) -> None:
    for what in BROKEN:
        with pytest.raises(InvalidInput, match="'doc 1'"):
            fresh.upsert(records(3), broken(what))
        assert (fresh.schema, fresh.count()) == (None, 0), what


@pytest.mark.parametrize("what", BROKEN)
def test_bad_vectors_change_nothing(kept: HybridStore, what: str) -> None:
    with pytest.raises(InvalidInput, match="'doc 1'"):
        kept.upsert(records(3), broken(what))
    with pytest.raises(InvalidInput, match="query 1"):
        kept.search(broken(what), rerank=True)


def test_after_refusals_the_collection_still_opens(home) -> None:
    store = home.open()
    store.upsert(records(5, first=10), made(5))
    for what in BROKEN:
        with pytest.raises(InvalidInput):
            store.upsert(records(3), broken(what))
    if home.kind.lasting:
        store.close()
        store = home.open()
    assert store.count() == 5
    assert len(store.search(made(1), rerank=True)[0]) == 5


def deep(levels: int) -> dict:
    metadata: dict = {}
    for level in range(levels):
        metadata = {"a": [metadata] if level % 2 else metadata}
    return metadata


BAD_RECORDS = [
    (Record("", "text"), "empty id"),
    (Record(7, "text"), "the id of record 1 is int"),
    (Record("x", None), "the text of record 'x' is None"),
    (Record("x", "\ud800"), "lone surrogate"),
    (Record("doc 0", "text"), "two records have the id 'doc 0'"),
    (Record("x", "text", {"when": np.float32(1)}), "'when': a float32 is no JSON"),
    (Record("x", "text", {"a": [float("nan")]}), "'a': nan is no JSON"),
    (Record("x", "text", {3: 4}), "keys are texts, not 3"),
    (Record("x", "text", {"n": 2**63}), "does not fit into 64 bits"),
    (Record("x", "text", "metadata"), "is a str, not a dict"),
    (Record("x", "text", deep(5000)), "nested more than 32 levels deep"),
    ({"id": "x", "text": "y"}, "record 1 is a dict, not a Record"),
]
ONLY_FLAT = [
    (Record("x", "text", {"a": {"b": 1}}), "record 'x': .*'a'"),
    (Record("x", "text", {"a": [1, "1"]}), "record 'x': .*'a'"),
    (Record("x", "text", {"a": [[1]]}), "record 'x': .*'a'"),
    (Record("x", "text", {"a": [None, 1]}), "record 'x': .*'a'"),
    (Record("x", "text", {"": 1}), "record 'x': .*empty key"),
]


def test_bad_records_are_refused(home, kept: HybridStore) -> None:
    fresh = home.open()
    for record, message in BAD_RECORDS + ONLY_FLAT * (not home.kind.nested):
        for store in (fresh, kept):
            with pytest.raises(InvalidInput, match=message):
                store.upsert([Record("doc 0", "another text"), record], made(2, seed=1))
    assert fresh.schema is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (fingerprint("another"), "model is 'random' there and 'another' here"),
        (fingerprint(max_length=64), "max_length is 512 there and 64 here"),
        (fingerprint(mcls=256), "mcls is None there and 256 here"),
        (None, "of no known encoder"),
    ],
)
def test_another_encoders_vectors_are_refused(kept: HybridStore, other: Fingerprint | None, message: str) -> None:
    with pytest.raises(CollectionMismatch, match=message):
        kept.upsert(records(2), made(2, made_by=other))
    with pytest.raises(CollectionMismatch, match=message):
        kept.search(made(1, made_by=other))
    if other is not None:
        with pytest.raises(CollectionMismatch, match=message):
            kept.check_encoder(other)


def test_other_modes_are_refused(kept: HybridStore) -> None:
    for modes in (["dense"], ["dense", "sparse"]):
        with pytest.raises(CollectionMismatch, match=r"encode with modes=\['dense', 'sparse', 'multivector'\]"):
            kept.upsert(records(2), made(2, modes=modes))
    with pytest.raises(UnsupportedMode, match="the queries have no sparse"):
        kept.search(made(1, modes=["dense"]))
    with pytest.raises(UnsupportedMode, match="the queries have no multivector"):
        kept.search(made(1, modes=["dense", "sparse"]), rerank=True)


def test_without_fingerprints_the_widths_are_compared(fresh: HybridStore) -> None:
    fresh.upsert(records(2), made(2, made_by=None))
    narrow = M3Output(None, None, [np.ones((2, 4), dtype=np.float32)])
    wide = random_output(1, made_by=None, dim=24)
    for output, message in [
        (wide, "dense vectors 16 wide, and these are 24 wide"),
        (M3Output(made(1).dense, made(1).sparse, narrow.multivector), "multivector vectors 8 wide, and these are 4"),
    ]:
        with pytest.raises(CollectionMismatch, match=message):
            fresh.upsert(records(1), output)
        with pytest.raises(CollectionMismatch, match=message):
            fresh.search(output, rerank=True)
    with pytest.raises(CollectionMismatch, match="of no known encoder"):
        fresh.search(made(1))
    assert fresh.count() == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be"),
        ({"k": True}, "k must be"),
        ({"k": 2.0}, "k must be"),
        ({"k": 2**62}, "k must be"),
        ({"k": 5, "candidates": 4}, "candidates must be"),
        ({"modes": 5}, "modes must be a list"),
        ({"modes": "dense"}, "modes must be a list"),
        ({"modes": ["colbert"]}, "modes must be a list"),
        ({"modes": []}, "modes must be a list"),
        ({"filter": "pro"}, "a filter is a dict"),
        ({"filter": {"a": {"$near": 1}}}, r"unknown operator '\$near'"),
        ({"ids": "doc 1"}, "ids must be a list"),
        ({"ids": [1]}, "ids must be a list"),
        ({"fusion": "rrf"}, "fusion must be"),
        ({"score_threshold": float("nan")}, "score_threshold must be"),
        ({"mmr": 1.5}, "mmr must be between"),
        ({"mmr": "0.5"}, "mmr must be"),
    ],
)
def test_bad_arguments_of_a_search_are_refused(kept: HybridStore, options: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        kept.search(made(1), **options)


def test_bad_arguments_are_refused(kept: HybridStore) -> None:
    for call in (kept.delete, lambda: kept.delete(["a"], filter={"a": 1})):
        with pytest.raises(InvalidInput, match="either ids or a filter"):
            call()
    for ids in ("doc 1", None, [1]):
        with pytest.raises(InvalidInput, match="ids must be a list"):
            kept.get(ids)
    for call in (kept.delete, lambda ids: kept.vectors(ids, "dense")):
        with pytest.raises(InvalidInput, match="ids must be a list"):
            call("doc 1")
    with pytest.raises(InvalidInput, match="an empty filter would delete everything"):
        kept.delete(filter={})
    with pytest.raises(InvalidInput, match="size must be"):
        kept.page(size=0)
    for call in (kept.count, lambda where: kept.delete(filter=where), lambda where: kept.page(filter=where)):
        with pytest.raises(InvalidInput, match="takes a finite number"):
            call({"number": {"$gt": "1"}})
    with pytest.raises(InvalidInput, match="not as a NoneType"):
        kept.upsert(records(1), None)
    with pytest.raises(InvalidInput, match="not as a str"):
        kept.search("query")
    with pytest.raises(InvalidInput, match="have no numbers"):
        kept.upsert(records(1), M3Output(np.zeros((1, 0))))
    with pytest.raises(InvalidInput, match="2 records come with the vectors of 1"):
        kept.upsert(records(2), made(1))


def test_a_full_disk_is_said_before_an_embedded_engine_finds_out(home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qdrant's would be ended by the system, without a word; Chroma's would wait for ever."""
    usage = shutil.disk_usage
    store, given = home.open(), records(2)

    def leave(free: int) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage(path)._replace(free=free))

    leave(50_000_000)
    if "server" in home.kind.name:
        assert store.upsert(given, random_output(2))
        return
    with pytest.raises(StoreError, match=r"50 MB are left on the disk .*: make room"):
        store.upsert(given, random_output(2))
    leave(10**12)
    store.upsert(given[:1], random_output(2)[:1])
    leave(50_000_000)
    with pytest.raises(StoreError, match="make room"):
        store.upsert(given[1:], random_output(2)[1:])
    assert store.count() == 1
    assert len(store.search(random_output(1))[0]) == 1
    store.delete([given[0].id])  # which is one way to make room
    assert store.count() == 0
