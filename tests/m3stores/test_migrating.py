"""Moving collections between stores."""

from pathlib import Path

import pytest
from store_kinds import KINDS
from vectors import KNOWN, fingerprint, random_output, records

from m3core import CollectionMismatch, InvalidInput, M3Output, Record
from m3stores import ChromaStore, HybridStore, QdrantStore, migrate

N = 600


@pytest.fixture(scope="module")
def source():
    with QdrantStore("source") as store:
        store.upsert(records(N), random_output(N))
        yield store


def assert_same(one: HybridStore, other: HybridStore) -> None:
    query = random_output(3, seed=1)
    for hits, others in zip(one.search(query, rerank=True), other.search(query, rerank=True), strict=True):
        assert [hit.id for hit in hits] == [hit.id for hit in others]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in others], abs=1e-3)
    assert one.schema == other.schema


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_record_arrives_in_every_store(kind, source: HybridStore, tmp_path: Path) -> None:
    for package in kind.needs:
        pytest.importorskip(package)
    with kind.place(tmp_path) as opened, opened("moved") as target:
        assert migrate(source, target) == N
        assert target.count() == N
        assert_same(source, target)
        assert migrate(source, target) == 0
        with QdrantStore("back") as back:
            assert migrate(target, back) == N
            assert_same(source, back)
        target.drop()


def test_an_interrupted_move_goes_on(source: HybridStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with QdrantStore("target") as target:
        upsert, calls = target.upsert, []

        def interrupted(some, output):
            calls.append(len(some))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return upsert(some, output)

        with monkeypatch.context() as patch:
            patch.setattr(target, "upsert", interrupted)
            with pytest.raises(KeyboardInterrupt):
                migrate(source, target)
        there = target.count()
        assert 0 < there < N
        assert migrate(source, target) == N - there
        assert target.count() == N


def test_what_cannot_be_moved_is_refused() -> None:
    with QdrantStore("source") as source, QdrantStore("target") as target, ChromaStore("target") as chroma:
        with pytest.raises(InvalidInput, match="nothing to move"):
            migrate(source, target)
        source.upsert([Record("a", "text", {"nested": {"x": 1}})], random_output(1))
        with pytest.raises(InvalidInput, match="record 'a': Chroma takes no metadata with dicts"):
            migrate(source, chroma)
        assert chroma.schema is None
        target.upsert(records(1), random_output(1, modes=("dense",)))
        with pytest.raises(CollectionMismatch):
            migrate(source, target)


def test_a_collection_of_another_program_moves_with_the_name_of_its_encoder(tmp_path: Path) -> None:
    chromadb = pytest.importorskip("chromadb")
    client = chromadb.PersistentClient(str(tmp_path))
    collection = client.create_collection("foreign", embedding_function=None)
    collection.add(ids=["a", "b"], embeddings=random_output(2).dense, documents=["x", "y"])
    client.close()
    with ChromaStore("foreign", path=tmp_path) as source, QdrantStore("target") as target:
        with pytest.raises(CollectionMismatch, match="made_by="):
            migrate(source, target)
        assert migrate(source, target, made_by=KNOWN) == 2
        query = M3Output(random_output(2).dense[:1], fingerprint=KNOWN)
        assert target.search(query, k=1)[0][0].id == "a"
        with pytest.raises(CollectionMismatch, match="model is 'random' there and 'another' here"):
            migrate(target, source, made_by=fingerprint("another"))
        target.clear()
        with pytest.raises(InvalidInput, match="nothing to move"):
            migrate(target, source)
