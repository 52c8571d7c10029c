"""A source in a collection is what the source is, whatever was there before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3core import CollectionMismatch, InvalidInput, M3Encoder, M3Output, Record, StoreError
from m3stores import HybridStore, QdrantStore
from m3stores.collection import Comparison
from m3stores.pipeline import Summary, encode, index

Put = Callable[..., Summary]
SENTENCES = ["the meaning of the one", "中国人说的是大的", "me of it, me", "是不是来了？", "one, two! 3 4 5 到"]


@pytest.fixture
def texts(tiny_m3: M3Encoder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was encoded."""
    encoded: list[str] = []
    encode = M3Encoder.encode_documents

    def noting(encoder: M3Encoder, texts: Any, **options: Any) -> M3Output:
        encoded.extend(texts)
        return encode(encoder, texts, **options)

    monkeypatch.setattr(M3Encoder, "encode_documents", noting)
    return encoded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A long text, a short Markdown file, and three records."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "long.txt").write_text("\n\n".join(SENTENCES * 4), "utf-8")
    (folder / "short.md").write_text("# the one\n\nof me\n", "utf-8")
    write(folder, ["one", "two", "three"])
    return folder


def write(folder: Path, texts: list[str]) -> None:
    lines = [json.dumps({"_id": f"r{i}", "text": text, "year": 2000 + i}) for i, text in enumerate(texts)]
    (folder / "records.jsonl").write_text("\n".join(lines), "utf-8")


def put(source: Any, encoder: M3Encoder, store: HybridStore, **options: Any) -> Summary:
    return index(source, encoder, store, **{"tokens": 24, "overlap": 0, "exact": True} | options)


def held(store: HybridStore) -> dict[str, Record]:
    records = [record for page in store.scroll() for record in page.records]
    assert len(records) == len({record.id for record in records}) == store.count()
    return {record.id: record for record in records}


def test_all_passages_are_there_with_their_vectors(folder: Path, tiny_m3: M3Encoder, fresh: HybridStore) -> None:
    summary = put(folder, tiny_m3, fresh)
    found = held(fresh)
    assert (summary.documents, summary.passages, summary.encoded) == (5, len(found), len(found))
    assert summary.added == len(found)
    assert found["r1"] == Record("r1", "two", {"year": 2001})
    passages = [record for name, record in found.items() if name.startswith("docs/long.txt")]
    passages.sort(key=lambda record: record.metadata["m3_passage"])
    assert len(passages) > 3
    assert "".join("".join(p.text.split()) for p in passages) == "".join("".join(SENTENCES * 4).split())
    assert {record.metadata["source"] for record in passages} == {"docs/long.txt"}
    output = tiny_m3.encode_documents(["two"])
    assert fresh.vectors(["r1"], "dense")["r1"] == pytest.approx(output.dense[0], abs=1e-3)
    (hits,) = fresh.search(tiny_m3.encode_queries(["two"]), k=1)
    assert hits[0].id == "r1"


def test_what_is_unchanged_is_not_encoded_again(
    folder: Path, tiny_m3: M3Encoder, fresh: HybridStore, texts: list[str]
) -> None:
    first = put(folder, tiny_m3, fresh)
    before = held(fresh)
    texts.clear()
    again = put(folder, tiny_m3, fresh)
    assert (again.encoded, again.unchanged, again.removed, texts) == (0, first.passages, 0, [])
    write(folder, ["one", "another", "three", "four"])
    summary = put(folder, tiny_m3, fresh)
    assert (summary.encoded, summary.added) == (2, 1)
    assert sorted(texts) == ["another", "four"]
    assert held(fresh) == before | {
        "r1": Record("r1", "another", {"year": 2001}),
        "r3": Record("r3", "four", {"year": 2003}),
    }


def test_new_metadata_counts_as_a_change(tiny_m3: M3Encoder, fresh: HybridStore) -> None:
    put([{"id": "a", "text": "one", "year": 1}], tiny_m3, fresh)
    assert put([{"id": "a", "text": "one", "year": 2}], tiny_m3, fresh).encoded == 1
    assert fresh.get(["a"]) == [Record("a", "one", {"year": 2})]


def test_a_shorter_text_leaves_no_passages_behind(folder: Path, tiny_m3: M3Encoder, fresh: HybridStore) -> None:
    before = put(folder, tiny_m3, fresh)
    (folder / "long.txt").write_text(SENTENCES[0], "utf-8")
    after = put(folder, tiny_m3, fresh)
    names = [name for name in held(fresh) if name.startswith("docs/long.txt")]
    assert names == ["docs/long.txt"]
    assert after.removed == before.passages - after.passages > 2
    (folder / "long.txt").write_text("", "utf-8")
    assert put(folder, tiny_m3, fresh).removed == 1
    assert not [name for name in held(fresh) if name.startswith("docs/long.txt")]


def test_ids_of_passages_are_not_for_records(tiny_m3: M3Encoder, fresh: HybridStore) -> None:
    records = [{"id": "a", "text": "one " * 40}, {"id": "a#passage1", "text": "two"}, {"text": "three"}]
    records.append({"id": "record#2", "text": "as the one before"})
    summary = put(records, tiny_m3, fresh)
    assert [reject.where for reject in summary.rejects] == ["record 1", "record 3"]
    assert "of passages; rename it" in summary.rejects[0].reason
    assert held(fresh).keys() >= {"a", "a#passage1", "record#2"}
    assert held(fresh)["a#passage1"].text.startswith("one")


def test_metadata_of_ones_own_called_passage_is_nothing_special(tiny_m3: M3Encoder, fresh: HybridStore) -> None:
    records = [{"id": "x", "text": "one", "passage": 1}, {"id": "x#1", "text": "two", "passage": 0}]
    for _ in range(2):
        put(records, tiny_m3, fresh, sync=True)
        assert held(fresh)["x"].metadata == {"passage": 1}
        assert held(fresh).keys() == {"x", "x#1"}


def test_passages_that_were_written_to_a_file_are_records(
    folder: Path, tiny_m3: M3Encoder, fresh: HybridStore, tmp_path: Path
) -> None:
    lines = tmp_path / "encoded.jsonl"
    written = encode(folder, tiny_m3, lines, tokens=24)
    for _ in range(3):
        summary = put(lines, tiny_m3, fresh, tokens=None, sync=True)
        assert (summary.rejected, summary.removed, fresh.count()) == (0, 0, written.passages)


def test_what_a_killed_run_had_begun_to_remove_is_removed_by_the_next(
    folder: Path, tiny_m3: M3Encoder, fresh: HybridStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, tiny_m3, fresh)
    (folder / "long.txt").write_text("the one", "utf-8")
    delete = type(fresh).delete

    def dies(store: HybridStore, ids: list[str]) -> None:
        delete(store, ids[: len(ids) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(type(fresh), "delete", dies)
    with pytest.raises(KeyboardInterrupt):
        put(folder, tiny_m3, fresh)
    monkeypatch.undo()
    put(folder, tiny_m3, fresh)
    assert held(fresh).keys() == {"docs/long.txt", "docs/short.md", "r0", "r1", "r2"}


def test_a_passage_that_is_missing_hides_no_others(folder: Path, tiny_m3: M3Encoder, fresh: HybridStore) -> None:
    put(folder, tiny_m3, fresh)
    fresh.delete(["docs/long.txt#passage1"])
    (folder / "long.txt").write_text("the one", "utf-8")
    put(folder, tiny_m3, fresh)
    assert held(fresh).keys() == {"docs/long.txt", "docs/short.md", "r0", "r1", "r2"}


def test_a_passage_that_cannot_be_encoded_or_kept_is_rejected_alone(
    tiny_m3: M3Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_documents = M3Encoder.encode_documents

    def failing(encoder: M3Encoder, texts: list[str], **options: Any) -> M3Output:
        if any("poison" in text for text in texts):
            raise RuntimeError("illegal memory access")
        output = encode_documents(encoder, texts, **options)
        for row, text in enumerate(texts):
            output.dense[row] *= np.nan if "odd" in text else 1
        return output

    monkeypatch.setattr(M3Encoder, "encode_documents", failing)
    records = [{"id": str(i), "text": text} for i, text in enumerate(["one", "poison", "two", "odd", "three"])]
    with QdrantStore("docs") as store:
        summary = put(records, tiny_m3, store)
        assert {reject.where: reject.reason for reject in summary.rejects}.keys() == {"1", "3"}
        assert (summary.passages, summary.encoded, summary.added, store.count()) == (3, 3, 3, 3)


def test_rejects_are_no_source_and_replace_only_rejects(folder: Path, tiny_m3: M3Encoder) -> None:
    rejects = folder / "rejects.jsonl"
    (folder / "bad.jsonl").write_text("no json\n", "utf-8")
    with QdrantStore("docs") as store:
        for _ in range(3):
            assert put(folder, tiny_m3, store, rejects=rejects).rejected == 1
            assert len(rejects.read_text("utf-8").splitlines()) == 1
        (folder / "bad.jsonl").unlink()
        assert put(folder, tiny_m3, store, rejects=rejects).rejected == 0
        assert not rejects.exists()
        with pytest.raises(InvalidInput, match="something else than rejects"):
            put(folder, tiny_m3, store, rejects=folder / "long.txt")
        with pytest.raises(InvalidInput, match="there is no folder"):
            put(folder, tiny_m3, store, rejects=folder / "none" / "rejects.jsonl")
        with pytest.raises(InvalidInput, match="no encoding 'nosuch'"):
            put(folder, tiny_m3, store, encoding="nosuch")
        with pytest.raises(InvalidInput, match="lies in the source"):
            encode(folder, tiny_m3, folder / "out.jsonl")


def test_sync_removes_what_is_gone(
    folder: Path, tiny_m3: M3Encoder, fresh: HybridStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m3stores.pipeline.removing._MOST", 2)  # of a million in memory, and more to remove
    put(folder, tiny_m3, fresh)
    put([{"id": "other", "text": "of me"}], tiny_m3, fresh)
    (folder / "long.txt").unlink()
    write(folder, ["one", "two"])
    assert put(folder, tiny_m3, fresh).removed == 0
    (folder / "bad.txt").write_bytes(b"\xff\xfe\xff")
    assert put(folder, tiny_m3, fresh, sync=True).removed == 0
    (folder / "bad.txt").unlink()
    before = fresh.count()
    assert put(folder, tiny_m3, fresh, sync=True).removed == before - 3
    assert held(fresh).keys() == {"r0", "r1", "docs/short.md"}


def test_rejects_are_listed_and_the_rest_is_there(folder: Path, tiny_m3: M3Encoder, fresh: HybridStore) -> None:
    (folder / "bad.txt").write_bytes("你好".encode("gb18030"))
    records = (folder / "records.jsonl").read_text("utf-8")
    (folder / "records.jsonl").write_text('{"_id": "r0", "text": "\\ud800"}\n{"_id": 1}\n' + records + "\n[", "utf-8")
    file = folder.parent / "rejects.jsonl"
    summary = put(folder, tiny_m3, fresh, rejects=file)
    rejects = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [reject["where"] for reject in rejects] == [
        "docs/bad.txt", "docs/records.jsonl:1", "docs/records.jsonl:2", "docs/records.jsonl:3", "docs/records.jsonl:6",
    ]  # fmt: skip
    assert "surrogate" in rejects[1]["reason"]
    assert "ids must be distinct" in rejects[3]["reason"]
    assert summary.rejected == len(rejects) == len(summary.rejects)
    assert summary.report()["rejects"][0] == rejects[0]
    assert {"r1", "r2", "docs/short.md"} <= held(fresh).keys()


def test_what_is_no_unicode_is_rejected_before_it_is_split_or_looked_up(tiny_m3: M3Encoder) -> None:
    with QdrantStore("test") as store:
        records = [{"text": "the one " * 40 + "\ud800"}, {"id": "\ud800", "text": "one"}, {"text": "of me"}]
        summary = put(records, tiny_m3, store)
        assert (summary.rejected, store.count()) == (2, 1)
    assert all("surrogate" in reject.reason for reject in summary.rejects)
    assert [reject.where for reject in summary.rejects] == ["record 0", "record 1"]


def test_another_encoders_collection_is_refused_before_anything_is_encoded(
    mini: M3Encoder, tiny_m3: M3Encoder, texts: list[str]
) -> None:
    with QdrantStore("test") as store:
        put([{"text": "one"}], tiny_m3, store)
        texts.clear()
        with pytest.raises(CollectionMismatch):
            index([{"text": "two"}], mini, store, batch_size=30)
    assert not texts


def test_nothing_rejected_writes_no_file(folder: Path, tiny_m3: M3Encoder, tmp_path: Path) -> None:
    with QdrantStore("test") as store:
        put(folder, tiny_m3, store, rejects=tmp_path / "rejects.jsonl")
    assert not (tmp_path / "rejects.jsonl").exists()


def test_a_record_that_this_store_cannot_keep_is_rejected_alone(tiny_m3: M3Encoder) -> None:
    records = [{"id": str(i), "text": "one", "x": object() if i == 3 else i} for i in range(6)]
    with QdrantStore("test") as store:
        summary = put(records, tiny_m3, store)
        assert held(store).keys() == {"0", "1", "2", "4", "5"}
    assert "record '3'" in summary.rejects[0].reason


def test_modes_are_those_of_the_collection(tiny_m3: M3Encoder) -> None:
    with QdrantStore("test") as store:
        put([{"text": "one"}], tiny_m3, store, modes=["dense"])
        put([{"text": "one"}, {"text": "two"}], tiny_m3, store)
        assert store.modes == ("dense",)
        with pytest.raises(CollectionMismatch, match="keeps dense"):
            put([{"text": "one"}], tiny_m3, store, modes=["dense", "sparse"])


def test_what_fails_under_way_is_raised_and_gone_on_with(
    tiny_m3: M3Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a full disk."""
    records = [{"text": f"the one {i}"} for i in range(100)]
    upsert, calls = QdrantStore.upsert, iter(range(100))

    def fails(store: QdrantStore, *arguments: Any) -> list[str]:
        if next(calls) == 4:
            raise OSError(28, "No space left on device")
        return upsert(store, *arguments)

    with QdrantStore("test", path=tmp_path) as store:
        monkeypatch.setattr(QdrantStore, "upsert", fails)
        with pytest.raises(OSError, match="No space left"):
            put(records, tiny_m3, store, batch_size=30)
        assert 40 <= store.count() < 100
        summary = put(records, tiny_m3, store, batch_size=30)
        assert store.count() == 100
        assert summary.encoded == 100 - summary.unchanged <= 60


@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_number_of_records_is_told(tiny_m3: M3Encoder, change: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is lost, or that another program has written meanwhile."""
    upsert = QdrantStore.upsert

    def miscounting(store: QdrantStore, records: list[Record], output: M3Output) -> list[str]:
        if change < 0:
            return upsert(store, records[1:], output[1:])
        return upsert(store, [*records, Record("other", "")], output[[*range(len(records)), 0]])

    with QdrantStore("test") as store:
        put([{"id": str(i), "text": "one"} for i in range(4)], tiny_m3, store)
        monkeypatch.setattr(QdrantStore, "upsert", miscounting)
        source = [{"id": str(i), "text": "two"} for i in range(6, 1, -1)]  # first what is new
        said = rf"holds {7 + change} records and not 7: 4 were there, 3 are new, 0 were removed\. Another program"
        with pytest.raises(StoreError, match=said):
            put(source, tiny_m3, store)


def test_no_more_is_on_its_way_than_was_asked_for(tiny_m3: M3Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, stored, most = 0, 0, 0
    encode, upsert = M3Encoder.encode_documents, QdrantStore.upsert

    def counting(encoder: M3Encoder, texts: list[str], **options: Any) -> M3Output:
        nonlocal encoded, most
        encoded += len(texts)
        most = max(most, encoded - stored)
        return encode(encoder, texts, **options)

    def keeping(store: QdrantStore, records: list[Record], output: M3Output) -> list[str]:
        nonlocal stored
        done = upsert(store, records, output)
        stored += len(done)
        return done

    monkeypatch.setattr(M3Encoder, "encode_documents", counting)
    monkeypatch.setattr(QdrantStore, "upsert", keeping)
    with QdrantStore("test") as store:
        put(({"text": f"the one {i}"} for i in range(500)), tiny_m3, store, batch_size=30)
    assert stored == 500
    assert most <= 30


def test_bad_arguments_are_named(tiny_m3: M3Encoder, folder: Path) -> None:
    with QdrantStore("test") as store:
        with pytest.raises(InvalidInput, match="batch_size must be a whole number from 3"):
            put(folder, tiny_m3, store, batch_size=2)
        with pytest.raises(InvalidInput, match="there is no file or folder"):
            put(folder / "nothing", tiny_m3, store)


def test_the_hash_of_text_and_metadata_tells_what_changed(fresh: HybridStore, tiny_m3: M3Encoder) -> None:
    records = [Record(str(i), text, {"n": i}) for i, text in enumerate(SENTENCES)]
    assert fresh.compare(records) == Comparison(records, 5)
    fresh.upsert(records, tiny_m3.encode_documents(SENTENCES))
    assert fresh.compare(records) == Comparison([], 0)
    other = [Record("0", "new", {"n": 0}), Record("1", SENTENCES[1], {"n": 9}), records[2], Record("x", "new")]
    assert fresh.compare(other) == Comparison([other[0], other[1], other[3]], 1)
