import time
from pathlib import Path

import pytest
from counting import counted_passes, counted_ticks
from vectors import random_output, records

from m3core import CollectionMismatch, InvalidInput, M3Encoder, ModelNotFound, TruncationWarning, UnsupportedMode
from m3stores import QdrantStore, Record, TextIndex
from m3stores.adapting import as_encoder, content_ids, own_metadata, visible_metadata

WORDS = ["the", "中国", "me 2", "one, two", "abc"]


@pytest.fixture
def index(tiny_m3: M3Encoder):
    with QdrantStore("test") as store:
        yield TextIndex(tiny_m3, store)


def numbered(texts: list[str]) -> list[Record]:
    return [Record(str(i), text) for i, text in enumerate(texts)]


def test_any_number_of_records_from_a_generator(index: TextIndex) -> None:
    with counted_passes() as passes:
        ids = index.add(Record(str(i), f"the {i}") for i in range(2500))
        assert passes.texts == 2500
    assert ids == [str(i) for i in range(2500)]
    assert index.store.count() == 2500
    assert index.search(["the 1234"], k=1, candidates=2500)[0][0].text == index.store.get(["1234"])[0].text


def test_one_pass_for_a_query_in_all_modes(index: TextIndex) -> None:
    index.add(numbered(WORDS))
    with counted_passes() as passes:
        (hits,) = index.search(["the"], k=2)
        assert passes.texts == 1
        assert set(hits[0].scores) == {"dense", "sparse", "multivector"}
        (hits,) = index.search(["the"], k=2, modes=["dense"])
        assert set(hits[0].scores) == {"dense"}
        (hits,) = index.search(["the"], k=2, rerank=False)
        assert set(hits[0].scores) == {"dense", "sparse"}
        assert passes.texts == 3


async def test_asearch_finds_the_same(index: TextIndex) -> None:
    index.add(numbered(WORDS))
    assert await index.asearch(["the", "me"], k=3) == index.search(["the", "me"], k=3)


async def test_aadd_stores_the_same(index: TextIndex) -> None:
    texts = [f"the {i}" for i in range(1500)]
    ids = [record.id for record in numbered(texts)]
    with QdrantStore("other") as store:
        assert TextIndex(index.encoder, store).add(numbered(texts), modes=["dense", "sparse"]) == ids
        async with counted_ticks() as ticks:
            found = await index.aadd(
                (record for record in numbered(texts)), texts=iter(texts), modes=["sparse", "dense"]
            )
        assert ticks.count > 5
        assert found == ids
        assert index.store.modes == store.modes == ("dense", "sparse")
        assert index.store.get(ids) == store.get(ids)
        for mode in store.modes:
            assert str(index.store.vectors(ids, mode)) == str(store.vectors(ids, mode))


async def test_aadd_blocks_the_event_loop_neither_by_the_source_nor_by_the_store(index: TextIndex, monkeypatch) -> None:
    """Each of them takes its time."""

    def slowly(work):
        def slow(*arguments, **options):
            time.sleep(0.2)
            return work(*arguments, **options)

        return slow

    for method in ("schema", "write"):
        monkeypatch.setattr(index.store._engine, method, slowly(getattr(index.store._engine, method)))
    async with counted_ticks() as ticks:
        start = time.monotonic()
        await index.aadd(map(slowly(lambda record: record), numbered(["the"])))
        elapsed = time.monotonic() - start
    assert elapsed > 0.8
    assert ticks.count > elapsed / 0.005 / 4


async def test_aadd_leaves_what_came_before_an_error(index: TextIndex) -> None:
    texts = [f"the {i}" for i in range(1024)]
    with pytest.raises(InvalidInput, match="the text of record 'bad' is None"):
        await index.aadd([*numbered(texts), Record("bad", None)])
    assert index.store.count() == 1024
    assert await index.aadd([]) == []
    with pytest.raises(CollectionMismatch, match="cannot be given other modes"):
        await index.aadd(numbered(WORDS), modes=["dense"])
    with pytest.raises(TypeError):
        await index.aadd(numbered(WORDS), mode=["dense"])


async def test_aadd_warns_of_cut_texts(index: TextIndex) -> None:
    with pytest.warns(TruncationWarning, match="2 of 1200 texts"):
        await index.aadd(Record(str(i), "a " * (500 if i in (3, 1100) else 1)) for i in range(1200))


async def test_aadd_to_a_server(tiny_m3: M3Encoder, server) -> None:
    async with server.store() as store:
        assert await TextIndex(tiny_m3, store).aadd(numbered(WORDS)) == [str(i) for i in range(len(WORDS))]
        assert await store.acount() == len(WORDS)


def test_other_texts_may_stand_for_the_records(index: TextIndex) -> None:
    index.add(numbered(WORDS), texts=["shown to the model", *WORDS[1:]])
    expected = index.encoder.encode_documents(["shown to the model"])
    score = next(hit.score for hit in index.search(["the"], k=5, modes=["dense"])[0] if hit.id == "0")
    wanted = index.encoder.encode_queries(["the"]).score(expected, weights=(1, 0, 0))[0, 0]
    assert score == pytest.approx(float(wanted), abs=1e-5)
    assert index.store.get(["0"])[0].text == "the"


def test_the_modes_of_a_new_collection_can_be_chosen(index: TextIndex) -> None:
    index.add(numbered(WORDS[:2]), modes=["sparse", "dense"])
    index.add(numbered(WORDS))
    assert index.store.modes == ("dense", "sparse")
    with pytest.raises(CollectionMismatch, match="keeps dense, sparse, and cannot be given other modes"):
        index.add(numbered(WORDS), modes=["dense"])
    with pytest.raises(UnsupportedMode, match="has no multivector"):
        index.search(["the"], rerank=True)


def test_an_empty_collection_finds_nothing(index: TextIndex) -> None:
    assert index.add([]) == []
    assert index.search(["the", "me"]) == [[], []]


def test_another_encoders_collection_is_refused_before_anything_is_encoded(tiny_m3: M3Encoder) -> None:
    with QdrantStore("test") as store:
        store.upsert(records(1), random_output(1))
        with pytest.raises(CollectionMismatch, match="model is 'random' there"):
            TextIndex(tiny_m3, store)


def test_a_bad_text_is_named_and_what_came_before_stays(index: TextIndex) -> None:
    texts = [f"the {i}" for i in range(1024)]
    with pytest.raises(InvalidInput, match="the text of record 'bad' is None"):
        index.add([*numbered(texts), Record("bad", None)])
    assert index.store.count() == 1024


def test_cut_texts_are_counted_once(index: TextIndex) -> None:
    with pytest.warns(TruncationWarning, match="2 of 2000 texts"):
        index.add(Record(str(i), "a " * (500 if i in (3, 1700) else 1)) for i in range(2000))


def test_bad_records_are_named_before_anything_is_encoded(index: TextIndex) -> None:
    for bad, message in [
        (Record("x", "the", {"when": object()}), "a object is no JSON"),
        (Record("3", "the"), "two records have the id '3'"),
        ({"id": "x"}, "is a dict, not a Record"),
    ]:
        with counted_passes() as passes, pytest.raises(InvalidInput, match=message):
            index.add([*numbered(WORDS), bad])
        assert passes.texts == 0


def test_an_id_twice_is_found_however_far_apart(index: TextIndex) -> None:
    with pytest.raises(InvalidInput, match="two records have the id '0'"):
        index.add([*numbered(["the"] * 1500), Record("0", "again")])


def test_an_error_of_the_source_comes_through(index: TextIndex) -> None:
    def broken():
        yield Record("0", "the")
        raise ValueError("the disk is gone")

    with pytest.raises(ValueError, match="the disk is gone"):
        index.add(broken())


@pytest.mark.parametrize("texts", [["a"], ["a"] * 9])
def test_texts_of_another_number_are_refused(index: TextIndex, texts: list[str]) -> None:
    with pytest.raises(InvalidInput, match="as many texts as records"):
        index.add(numbered(WORDS), texts=texts)


def test_arguments_of_other_kinds_are_named(index: TextIndex) -> None:
    with pytest.raises(InvalidInput, match="modes must be a list"):
        index.add(numbered(WORDS), modes=[])
    index.add(numbered(WORDS))
    for call in (lambda: index.search("the"), lambda: index.search([None]), lambda: index.search(["a"], modes=5)):
        with pytest.raises(InvalidInput):
            call()


def test_wide_multivectors_are_stored_in_smaller_portions(tiny_m3: M3Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3stores.text._ROWS", 32 * 100)
    portions = []
    with QdrantStore("test") as store:
        upsert = store.upsert
        monkeypatch.setattr(store, "upsert", lambda r, o: portions.append(len(r)) or upsert(r, o))
        TextIndex(tiny_m3, store).add(numbered(["the"] * 250))
    assert portions == [100, 100, 50]


def test_the_encoder_that_made_a_collection_is_found_again(tmp_path: Path, m3_dir: Path, mini: M3Encoder) -> None:
    encoder = M3Encoder("m3-mini", max_length=64, normalize=False, instruction="query: ")
    with QdrantStore("test") as store:
        TextIndex(encoder, store).add(numbered(WORDS))
        again = as_encoder(None, store)
        assert again.fingerprint == encoder.fingerprint
        assert as_encoder(mini, store) is mini
    with QdrantStore("test") as store:
        local = M3Encoder(m3_dir, device="cpu")
        TextIndex(local, store).add(numbered(WORDS))
        with pytest.raises(ModelNotFound, match="say where that is, with encoder="):
            as_encoder(None, store)
        assert as_encoder(m3_dir, store).fingerprint == local.fingerprint


def test_reserved_keys_are_refused() -> None:
    with pytest.raises(InvalidInput, match="rename '_m3_node'"):
        own_metadata({"_m3_node": 1})
    assert visible_metadata({"a": 1, "_m3_node": 2}) == {"a": 1}


def test_content_ids_are_the_same_for_the_same_content() -> None:
    texts, metadatas = ["a", "a", "b", "a"], [{"x": 1, "y": 2}, {"y": 2, "x": 1}, {}, {}]
    ids = list(content_ids(texts, metadatas))
    assert ids == list(content_ids(texts, metadatas))
    assert len(set(ids)) == 4
    assert ids[1] == ids[0] + "-1"
    with pytest.raises(InvalidInput, match="the metadata of text 0 is no JSON"):
        list(content_ids(["a"], [{1: 2, "b": 3}]))
