"""What is particular to the embedded engine of Qdrant."""

from pathlib import Path
from types import MappingProxyType

import pytest
from vectors import random_output, records

from m3core import StoreError
from m3stores import QdrantStore, Record


def test_the_engines_own_filter_passes_through() -> None:
    from qdrant_edge import FieldCondition, Filter, RangeFloat

    own = Filter(must=[FieldCondition("metadata.number", range=RangeFloat(lt=3))])
    with QdrantStore("test") as store:
        store.upsert(records(20), random_output(20))
        assert store.count(own) == 3
        assert len(store.search(random_output(1), filter=own)[0]) == 3


def deep(levels: int) -> dict:
    metadata: dict = {}
    for level in range(levels):
        metadata = {"a": [metadata] if level % 2 else metadata}
    return metadata


def test_metadata_of_any_mapping_comes_back_plain(tmp_path: Path) -> None:
    metadata = MappingProxyType({"a": MappingProxyType({"b": (1, 2)}), "deep": deep(15)})
    with QdrantStore("test", path=tmp_path) as store:
        store.upsert([Record("x", "text", metadata)], random_output(1))
    with QdrantStore("test", path=tmp_path) as store:
        assert store.get(["x"])[0].metadata == {"a": {"b": [1, 2]}, "deep": deep(15)}


def test_many_records_are_deleted_by_a_filter(tmp_path: Path) -> None:
    """The log of the engine cannot read deep filters again; ids it can."""
    wanted: dict = {"number": {"$lt": 2100}}
    for _ in range(14):
        wanted = {"$and": [wanted, {"number": {"$gte": 0}}]}
    with QdrantStore("test", path=tmp_path) as store:
        store.upsert(records(2200), random_output(2200, modes=("sparse",)))
        store.delete(filter=wanted)
    with QdrantStore("test", path=tmp_path) as store:
        assert store.count() == 100


def test_collections_share_a_path(tmp_path: Path) -> None:
    with QdrantStore("一", path=tmp_path) as one, QdrantStore("two", path=tmp_path) as two:
        one.upsert(records(1), random_output(1))
        two.upsert(records(2), random_output(2))
        assert (one.count(), two.count()) == (1, 2)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = QdrantStore("test", path=tmp_path)
    store.upsert(records(1), random_output(1))
    store.close()
    store.close()
    new = QdrantStore("new", path=tmp_path)
    new.close()
    for closed in (store, new):
        for call in (
            lambda s: s.count(),
            lambda s: s.search(random_output(1)),
            lambda s: s.get(["a"]),
            lambda s: s.upsert(records(1), random_output(1)),
        ):
            with pytest.raises(StoreError, match="is closed: open a new QdrantStore"):
                call(closed)
    assert repr(store) == f"QdrantStore('test', qdrant:{tmp_path})"
