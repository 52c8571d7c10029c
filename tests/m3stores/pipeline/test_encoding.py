"""What was encoded into files is, when it is loaded, what would have been indexed."""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from contents import assert_same, content

from m3core import CollectionLocked, CollectionMismatch, InvalidInput, M3Encoder, M3Output, Record, StoreError
from m3stores import HybridStore, QdrantStore
from m3stores.pipeline import encode, index, load

pytest.importorskip("pyarrow")
from m3stores.pipeline.parts import PartsWriter

WORDS = ["the", "one", "of", "me", "it", "中国", "人", "说", "的", "是", "大", "a", "b", "c", "d", "1", "2", "3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Long texts, records, and two that cannot be used."""
    folder = tmp_path / "docs"
    folder.mkdir()
    chance = random.Random(7)
    for number in range(4):
        (folder / f"{number}.txt").write_text("\n\n".join(" ".join(chance.choices(WORDS, k=30)) for _ in range(9)))
    write(folder, [" ".join(chance.choices(WORDS, k=9)) for _ in range(60)])
    return folder


def write(folder: Path, texts: Sequence[str]) -> None:
    lines = [json.dumps({"_id": f"r{i}", "text": text, "n": i}) for i, text in enumerate(texts)]
    (folder / "records.jsonl").write_text("\n".join([*lines, "no json", '{"_id": "x"}']), "utf-8")


def test_loaded_it_is_what_would_have_been_indexed(
    folder: Path, tiny_m3: M3Encoder, fresh: HybridStore, tmp_path: Path
) -> None:
    there = encode(folder, tiny_m3, tmp_path / "e.parquet", tokens=24, rejects=tmp_path / "rejects.jsonl")
    with QdrantStore("expected") as store:
        here = index(folder, tiny_m3, store, tokens=24)
        assert (there.documents, there.passages, there.encoded) == (here.documents, here.passages, here.encoded)
        assert there.rejects == here.rejects
        loaded = load(tmp_path / "e.parquet", fresh, exact=True)
        assert (loaded.passages, loaded.encoded, loaded.added) == (here.passages, here.passages, here.passages)
        assert_same(content(fresh), content(store))
    again = load(tmp_path / "e.parquet", fresh, exact=True)
    assert (again.passages, again.unchanged, again.encoded) == (here.passages, here.passages, 0)
    assert index(folder, tiny_m3, fresh, tokens=24).encoded == 0
    assert len((tmp_path / "rejects.jsonl").read_text("utf-8").splitlines()) == 2


def test_some_of_the_modes_can_be_loaded(folder: Path, tiny_m3: M3Encoder, tmp_path: Path) -> None:
    encode(folder, tiny_m3, tmp_path / "e.parquet", tokens=24)
    with QdrantStore("some") as store:
        load(tmp_path / "e.parquet", store, modes=["sparse"])
        assert store.modes == ("sparse",)
        load(tmp_path / "e.parquet", store)  # keeps what the collection keeps
        assert store.modes == ("sparse",)
    encode(folder, tiny_m3, tmp_path / "d.parquet", tokens=24, modes=["dense"])
    with QdrantStore("some") as store, pytest.raises(InvalidInput, match="no sparse representations; it has dense"):
        load(tmp_path / "d.parquet", store, modes=["sparse"])


def test_a_broken_run_is_gone_on_with(
    folder: Path, tiny_m3: M3Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, upsert = tmp_path / "e.parquet", PartsWriter.upsert
    texts: list[str] = []
    monkeypatch.setattr("m3stores.pipeline.parts._SECONDS", 0.0)  # a file for each portion

    def fails(parts: PartsWriter, records: Sequence[Record], output: M3Output) -> list[str]:
        if len(texts) > 60:
            raise StoreError("the disk is full")
        texts.extend(record.text for record in records)
        return upsert(parts, records, output)

    monkeypatch.setattr(PartsWriter, "upsert", fails)
    with pytest.raises(StoreError, match="full"):
        encode(folder, tiny_m3, target, tokens=24, batch_size=60)
    monkeypatch.setattr(PartsWriter, "upsert", upsert)
    (target / "part-9.parquet.partial").write_bytes(b"what a killed run leaves")
    again = encode(folder, tiny_m3, target, tokens=24, batch_size=60)
    assert 0 < again.unchanged == len(texts) < again.passages == again.unchanged + again.encoded
    assert [path.suffix for path in target.iterdir() if path.name != ".lock"] == [".parquet"] * (
        len(list(target.iterdir())) - 1
    )
    with QdrantStore("loaded") as store, QdrantStore("expected") as expected:
        load(target, store)
        index(folder, tiny_m3, expected, tokens=24)
        assert_same(content(store), content(expected))


def test_files_are_not_mixed(folder: Path, tiny_m3: M3Encoder, tmp_path: Path, m3e_dir: Path) -> None:
    target = tmp_path / "e.parquet"
    encode(folder, tiny_m3, target, tokens=24)
    with pytest.raises(CollectionMismatch, match="another encoder"):
        encode(folder, M3Encoder(tiny_m3.arguments["model"], max_length=64, device="cpu"), target, tokens=24)
    with pytest.raises(CollectionMismatch, match="dense, sparse, multivector lie there, and these are dense"):
        encode(folder, tiny_m3, target, tokens=24, modes=["dense"])
    (folder / "0.txt").write_text("the one", "utf-8")
    with pytest.raises(CollectionMismatch, match=r"'docs/0\.txt' lies encoded in .* as another text"):
        encode(folder, tiny_m3, target, tokens=24)
    (folder / "0.txt").write_text((folder / "1.txt").read_text(), "utf-8")
    with closing(PartsWriter(target)), pytest.raises(CollectionLocked, match="the folder"):
        encode(folder, tiny_m3, target, tokens=24)


def test_one_run_at_a_time_writes_a_file(tiny_m3: M3Encoder, tmp_path: Path) -> None:
    target = tmp_path / "e.jsonl"

    def records() -> Iterator[dict[str, str]]:
        yield {"text": "the one"}
        with pytest.raises(CollectionLocked, match=r"the file .*e\.jsonl is open already"):
            encode([{"text": "another"}], tiny_m3, target)

    encode(records(), tiny_m3, target)
    (line,) = target.read_text("utf-8").splitlines()
    assert json.loads(line)["text"] == "the one"


def test_a_document_that_got_shorter_is_noticed(tiny_m3: M3Encoder, tmp_path: Path) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "e.parquet"
    source.write_text("\n\n".join(["the one of me it 中国 人 说 的 是 大 a b c d 1 2 3"] * 6), "utf-8")
    encode(source, tiny_m3, target, tokens=24, overlap=0)
    source.write_text("\n\n".join(["the one of me it 中国 人 说 的 是 大 a b c d 1 2 3"] * 2), "utf-8")
    with pytest.raises(CollectionMismatch, match="no longer there"):
        encode(source, tiny_m3, target, tokens=24, overlap=0)


def test_what_cannot_be_loaded_is_said(tiny_m3: M3Encoder, tmp_path: Path, folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with QdrantStore("docs") as store:
        with pytest.raises(InvalidInput, match="m3 encode SOURCE"):
            load(tmp_path / "none.parquet", store)
        with pytest.raises(InvalidInput, match="no file in it"):
            load(folder, store)
        pq.write_table(pa.table({"text": ["a"]}), folder / "x.parquet")
        with pytest.raises(InvalidInput, match="is not of `m3 encode`"):
            load(folder, store)
        (folder / "x.parquet").write_bytes(b"PAR1 and no more")
        with pytest.raises(InvalidInput, match=r"x\.parquet cannot be read"):
            load(folder, store)
        encode([{"text": "a"}], tiny_m3, tmp_path / "e.parquet")
        encode(
            [{"text": "b"}], M3Encoder(tiny_m3.arguments["model"], max_length=64, device="cpu"), tmp_path / "f.parquet"
        )
        for path in (tmp_path / "f.parquet").glob("*.parquet"):
            shutil.copy(path, tmp_path / "e.parquet" / "part-9.parquet")
        with pytest.raises(CollectionMismatch, match="another encoder"):
            load(tmp_path / "e.parquet", store)
        (tmp_path / "e.parquet" / "part-9.parquet").unlink()
        summary = index(tmp_path / "e.parquet", tiny_m3, store)
        assert "--from-encoded" in summary.rejects[0].reason
        assert store.count() == 0


@pytest.mark.parametrize("name", ["e.parquet", "e.jsonl"])
def test_a_disk_without_room_is_a_clear_error(tiny_m3: M3Encoder, folder: Path, name: str) -> None:
    resource = pytest.importorskip("resource")
    tiny_m3.encode_documents(["a"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(StoreError, match=rf"{name}.* cannot be written"):
            encode(folder / "records.jsonl", tiny_m3, folder.parent / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert encode(folder / "records.jsonl", tiny_m3, folder.parent / name).encoded == 60
    assert not list(folder.parent.rglob("*.partial"))
