"""The steps of a run, one after the other over tables, do what `index` does, whatever engine maps them."""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from contents import assert_same, content

from m3core import InvalidInput, M3Encoder, M3Output, Record, StoreError
from m3stores import ChromaStore, HybridStore, QdrantStore
from m3stores.collection import Comparison
from m3stores.pipeline import index
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.documents import Columns
from m3stores.pipeline.notes import Note
from m3stores.pipeline.reading import sound
from m3stores.pipeline.seen import Seen
from m3stores.pipeline.sources import Documents

pytest.importorskip("pyarrow")
from m3stores.pipeline.steps import documents_table, encode, split, write
from m3stores.pipeline.tables import Origin

RECORDS = [
    *(
        {"id": f"r{i}", "text": "the one of me it 中国 人 说 " * (1 + i % 9), "n": i, "tags": ["a", "b"]}
        for i in range(40)
    ),
    {"id": "r3", "text": "again"},
    {"id": "empty", "text": " "},
    {"id": "no text"},
    {"id": "bytes", "text": "a", "what": b"\x00"},
    {"id": "odd", "text": "a", "metadata": {1: 2}},
]


def run(source: Any, encoder: Any, store: HybridStore, size: int = 7) -> Note:
    """In tables of so many documents."""
    origin = Origin(encoder.score_weights, encoder.fingerprint)
    items = list(sound(Documents(source, Columns(), "utf-8"), Seen()))
    chunker, keys, total = pickle.loads(pickle.dumps(Chunker(encoder, 24, 4))), store.keys(), Note()
    for first in range(0, len(items), size):
        passages = split(documents_table(items[first : first + size]), chunker, keys)
        total += write(encode(passages, encoder, encoder.modes), store, origin)
    return total


def test_they_do_what_index_does(tiny_m3: M3Encoder, fresh: HybridStore) -> None:
    with QdrantStore("expected") as expected:
        for source in (RECORDS, RECORDS[20:], [{"id": "r8", "text": "the one"}, {"id": "r9", "text": "it", "n": 9}]):
            note = run(source, tiny_m3, fresh)
            summary = index(source, tiny_m3, expected, tokens=24, overlap=4)
            for name in ("documents", "passages", "unchanged", "encoded", "added", "removed"):
                assert getattr(note, name) == getattr(summary, name), name
            assert tuple(note.rejects) == summary.rejects
            assert_same(content(fresh), content(expected))


class Failing:
    """An encoder whose engine cannot read some texts, or none any more."""

    def __init__(self, encoder: M3Encoder, word: str) -> None:
        self._encoder, self._word = encoder, word

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_documents(self, texts: Sequence[str], **options: Any) -> M3Output:
        if any(self._word in text for text in texts):
            raise RuntimeError("illegal memory access")
        return self._encoder.encode_documents(texts, **options)


def test_a_text_that_an_engine_fails_at_is_rejected_alone(tiny_m3: M3Encoder) -> None:
    texts = ["the one", "poison of me", "it", "中国", "poison", "me"]
    with QdrantStore("docs") as store:
        note = run([{"text": text} for text in texts], Failing(tiny_m3, "poison"), store)
        assert [(reject.where, "illegal memory access" in reject.reason) for reject in note.rejects] == [
            ("record#1", True),
            ("record#4", True),
        ]
        assert (note.documents, note.passages, note.encoded, store.count()) == (6, 4, 4, 4)
        assert_same(
            content(store), {i: held for i, held in content(store).items() if i not in ("record#1", "record#4")}
        )


def test_an_engine_that_fails_at_everything_is_no_matter_of_texts(tiny_m3: M3Encoder) -> None:
    with QdrantStore("docs") as store, pytest.raises(RuntimeError, match="illegal"):
        run([{"text": text} for text in ("the one", "it")], Failing(tiny_m3, ""), store)


def test_a_record_that_a_store_cannot_keep_is_rejected_alone(tiny_m3: M3Encoder) -> None:
    source = [{"id": str(i), "text": "the one", "metadata": {"a": {"b": 1} if i == 3 else 1}} for i in range(6)]
    with ChromaStore("docs") as store:
        note = run(source, tiny_m3, store)
        assert [reject.where for reject in note.rejects] == ["3"]
        assert (note.passages, note.encoded, note.added, store.count()) == (5, 5, 5, 5)


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[str]:
    from store_kinds import chroma_run

    with chroma_run(tmp_path / "chroma") as url:
        yield url


def test_a_store_on_a_server_can_be_sent_to_another_process(tiny_m3: M3Encoder, chroma: str) -> None:
    from qdrant_standin import RestServer

    output = tiny_m3.encode_documents(["the one"], modes=["dense", "sparse"])
    with RestServer() as served:
        for store in (QdrantStore("docs", url=served.url), ChromaStore("docs", url=chroma)):
            with store, pickle.loads(pickle.dumps(store)) as copy:
                assert store.remote
                copy.upsert([Record("a", "the one")], output)
                assert store.get(["a"]) == [Record("a", "the one")]


def test_an_embedded_one_cannot(tmp_path: Path, chroma: str) -> None:
    for store in (QdrantStore("docs"), ChromaStore("docs"), ChromaStore("docs", url=chroma, sidecar=tmp_path)):
        with store:
            assert not store.remote
            with pytest.raises(StoreError, match="one process at a time"):
                pickle.dumps(store)


def test_keys_know_what_is_there(tiny_m3: M3Encoder, fresh: HybridStore) -> None:
    assert len(fresh.keys()) == 0
    records = [Record(f"r{i}", f"the one {i}", {"n": i, "中": "国"}) for i in range(30)]
    assert fresh.keys().compare(records) == Comparison(records, 30)
    fresh.upsert(records, tiny_m3.encode_documents([record.text for record in records]))
    keys = fresh.keys()
    others = [
        Record("r1", "other", {"n": 1}),
        Record("r2", "the one 2", {"n": 3}),
        Record("r30", "the one 1", {"n": 1}),
    ]
    assert len(keys) == 30
    assert keys.compare([*others, *records[3:]]) == fresh.compare([*others, *records[3:]]) == Comparison(others, 1)
    assert keys.among(["r1", "r30", "r29"]) == ["r1", "r29"]
    fresh.delete(["r7"])
    assert fresh.keys().compare(records) == Comparison([records[7]], 1)


def test_a_cluster_that_is_not_there_is_said(tiny_m3: M3Encoder) -> None:
    pytest.importorskip("ray")
    with QdrantStore("docs") as store:
        with pytest.raises(InvalidInput, match="ray start --head"):
            index([{"text": "a"}], tiny_m3, store, ray="127.0.0.1:9")
        with pytest.raises(InvalidInput, match="a generator cannot be sent"):
            index(({"text": text} for text in "abc"), tiny_m3, store, ray="local")
        assert store.count() == 0
