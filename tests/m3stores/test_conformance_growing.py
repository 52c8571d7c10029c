"""Every kind of store adds representations to a collection that has been made without them."""

from collections.abc import Callable

import pytest
from store_checks import check_contents, check_search
from store_reference import ALL, Reference, made, part
from vectors import fingerprint, records

from m3core import CollectionMismatch, InvalidInput, M3Output, Mode, Record, UnsupportedMode
from m3stores import HybridStore
from m3stores.engine import finished

N = 100  # more than one page of `add_modes`
NEW: list[Mode] = ["sparse", "multivector"]


class Encoder:
    """Knows what was made of each text, and remembers what it was asked for."""

    def __init__(self, modes: list[Mode] = NEW, breaks_after: int | None = None) -> None:
        self._modes, self._breaks_after = modes, breaks_after
        self.asked: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, some: list[Record]) -> M3Output:
        if self._breaks_after is not None and len(self.asked) >= self._breaks_after:
            raise ConnectionError("the encoder has gone")
        self.asked += [record.id for record in some]
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return part(M3Output.concat(whole(record) for record in some), self._modes)


def whole(record: Record) -> M3Output:
    """By all modes; of one's own for each text."""
    return made(1, seed=1000 * record.metadata["number"] + len(record.text))


def upsert(store: HybridStore, reference: Reference, some: list[Record], modes: list[Mode]) -> list[str]:
    """Stores by some modes what the reference knows by all."""
    whole_output = M3Output.concat(map(whole, some))
    reference.upsert(some, whole_output)
    return store.upsert(some, part(whole_output, modes))


@pytest.fixture
def reference(home) -> Reference:
    """What the collection is to become."""
    return home.reference()


@pytest.fixture
def dense(home, reference: Reference) -> HybridStore:
    store = home.open()
    upsert(store, reference, records(N), ["dense"])
    return store


def check_grown(store: HybridStore, reference: Reference) -> None:
    assert store.modes == ALL
    check_contents(store, reference)
    for options in ({}, {"rerank": True}, {"modes": ["sparse"], "filter": {"side": "pro"}}):
        check_search(store, reference, made(2, seed=1), **options)


def test_sparse_and_multivectors_are_added_to_dense(home, dense: HybridStore, reference: Reference) -> None:
    encoder = Encoder()
    dense.add_modes(NEW, encoder)
    assert sorted(encoder.asked) == sorted(reference.records)
    check_grown(dense, reference)
    if home.kind.lasting:
        dense.close()
        dense = home.open()
        check_grown(dense, reference)
    dense.add_modes(["dense", "multivector"], encoder)
    assert len(encoder.asked) == N
    assert upsert(dense, reference, records(3, first=N), list(ALL)) == ["doc 100", "doc 101", "doc 102"]
    check_grown(dense, reference)


def test_one_mode_after_the_other(dense: HybridStore, reference: Reference) -> None:
    for mode, held in (("multivector", ("dense", "multivector")), ("sparse", ALL)):
        dense.add_modes([mode], Encoder([mode]))
        assert dense.modes == held
    check_grown(dense, reference)


def test_dense_is_added_where_the_engine_can(home, reference: Reference) -> None:
    store = home.open()
    upsert(store, reference, records(N), ["sparse"])
    if home.kind.dense_later:
        store.add_modes(["dense", "multivector"], Encoder(["dense", "multivector"]))
        check_grown(store, reference)
        return
    with pytest.raises(InvalidInput, match="cannot add dense vectors"):
        store.add_modes(["dense"], Encoder(["dense"]))
    assert store.modes == ("sparse",)


def test_an_interrupted_run_goes_on_where_it_stopped(home, dense: HybridStore, reference: Reference) -> None:
    schema = dense.schema
    first, second = Encoder(breaks_after=1), Encoder()
    with pytest.raises(ConnectionError):
        dense.add_modes(NEW, first)
    assert 0 < len(first.asked) < N

    if home.kind.lasting:
        dense.close()
        dense = home.open()
    assert (dense.schema, dense.count()) == (schema, N)
    queries = made(2, seed=1)
    reference_hits = reference.pool(queries[0], modes=["dense"])
    assert {hit.id for hit in dense.search(queries[0])[0]} <= set(reference_hits.ids)
    with pytest.raises(UnsupportedMode, match="has no sparse"):
        dense.search(queries, modes=["sparse"])
    with pytest.raises(UnsupportedMode, match="has no sparse"):
        dense.vectors(first.asked, "sparse")
    assert finished(dense._engine.vectors(list(reference.records), "sparse")).keys() == set(first.asked)
    assert next(iter(dense.scroll(with_vectors=True))).output.modes == ("dense",)

    same = [reference.records[i] for i in first.asked[:2]]
    changed = [Record(i, "new", reference.records[i].metadata) for i in first.asked[2:4]]
    gone = first.asked[4]
    assert upsert(dense, reference, same, ["dense"]) == []
    assert upsert(dense, reference, [*changed, *records(1, first=N)], ["dense"]) == [*first.asked[2:4], f"doc {N}"]
    dense.delete([gone])
    reference.delete([gone])

    dense.add_modes(NEW, second)
    done = set(first.asked) - {record.id for record in changed}
    assert sorted(second.asked) == sorted(set(reference.records) - done)
    check_grown(dense, reference)


def test_records_may_be_written_meanwhile(dense: HybridStore, reference: Reference) -> None:
    encoder = Encoder()
    encoder.meanwhile = lambda: upsert(dense, reference, records(70, first=N), ["dense"])
    dense.add_modes(NEW, encoder)
    check_grown(dense, reference)


def test_records_may_be_changed_meanwhile(dense: HybridStore, reference: Reference) -> None:
    """What was made of a text goes to no other text."""
    encoder = Encoder()

    def meanwhile() -> None:
        changed = [Record(i, "another text", reference.records[i].metadata) for i in encoder.asked[:3]]
        upsert(dense, reference, changed, ["dense"])

    encoder.meanwhile = meanwhile
    dense.add_modes(NEW, encoder)
    check_grown(dense, reference)


def test_records_may_be_deleted_meanwhile(dense: HybridStore, reference: Reference) -> None:
    encoder = Encoder()

    def meanwhile() -> None:
        gone = encoder.asked[:3]
        dense.delete(gone)
        reference.delete(gone)

    encoder.meanwhile = meanwhile
    dense.add_modes(NEW, encoder)
    check_grown(dense, reference)


def test_afterwards_records_are_stored_by_all_modes(dense: HybridStore, reference: Reference) -> None:
    dense.add_modes(NEW, Encoder())
    with pytest.raises(CollectionMismatch, match="encode with modes="):
        dense.upsert(records(1), made(1, modes=["dense"]))
    for _ in range(2):
        upsert(dense, reference, records(5), list(ALL))
        check_grown(dense, reference)
    assert upsert(dense, reference, records(5), list(ALL)) == []


def test_what_encode_returns_is_checked(dense: HybridStore) -> None:
    for encode, error, message in [
        (lambda some: made(len(some) - 1, modes=NEW), InvalidInput, "records come with the vectors of"),
        (lambda some: made(len(some), modes=["sparse"]), UnsupportedMode, "lack multivector"),
        (lambda some: made(len(some), made_by=fingerprint("other")), CollectionMismatch, "'other' here"),
        (lambda some: None, InvalidInput, "come as an M3Output"),
    ]:
        with pytest.raises(error, match=message):
            dense.add_modes(NEW, encode)
        assert (dense.modes, dense.count()) == (("dense",), N)
    with pytest.raises(InvalidInput, match="modes must be a list"):
        dense.add_modes("sparse", Encoder())


def test_without_records_there_is_nothing_to_add_to(fresh: HybridStore) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        fresh.add_modes(NEW, Encoder())
    fresh.upsert(records(1), made(1, modes=["dense"]))
    fresh.clear()
    with pytest.raises(InvalidInput, match="has no records"):
        fresh.add_modes(NEW, Encoder())
