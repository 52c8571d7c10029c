"""What is read of files, folders and records, and what is wrong with them."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3core import InvalidInput
from m3stores.pipeline.documents import Columns, Document, Reject
from m3stores.pipeline.sources import Documents


def read(source: Any, *, encoding: str = "utf-8-sig", **columns: Any) -> list[Document | Reject]:
    return list(Documents(source, Columns(**columns), encoding))


def lines(*records: object) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def test_a_folder_is_its_files_in_order_without_hidden_ones(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "zh").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "b.md").write_text("# b", "utf-8")
    (folder / "zh" / "a.txt").write_text("\ufeff你好", "utf-8")
    (folder / "rows.jsonl").write_text(lines({"text": "one"}, {"_id": 7, "title": "t", "text": "two"}), "utf-8")
    for name in (".git/x.md", ".hidden.md", "picture.png"):
        (folder / name).write_text("no", "utf-8")
    assert read(folder) == [
        Document("docs/b.md", "# b", "docs/b.md", {"source": "docs/b.md"}, kind="markdown"),
        Document("docs/rows.jsonl#1", "one", "docs/rows.jsonl:1"),
        Document("7", "t two", "docs/rows.jsonl:2", named=True),
        Document("docs/zh/a.txt", "你好", "docs/zh/a.txt", {"source": "docs/zh/a.txt"}, kind="text"),
    ]


def test_a_folder_in_beir_layout_is_its_corpus(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(lines({"_id": "p", "text": "passage"}), "utf-8")
    (tmp_path / "queries.jsonl").write_text(lines({"_id": "q", "text": "query"}), "utf-8")
    assert [document.id for document in read(tmp_path)] == ["p"]


def test_tables_of_all_kinds_hold_the_same_records(tmp_path: Path) -> None:
    records = [{"key": "a", "body": "巴黎", "year": "1999"}, {"key": "b", "body": 'say "hi",\nthen go', "year": "2001"}]
    (tmp_path / "t.jsonl").write_text(lines(*records), "utf-8")
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines(*records).encode()))
    (tmp_path / "t.csv").write_text('key,body,year\na,巴黎,1999\nb,"say ""hi"",\nthen go",2001\n', "utf-8")
    (tmp_path / "g.csv").write_bytes((tmp_path / "t.csv").read_text("utf-8").encode("gb18030"))
    (tmp_path / "t.tsv").write_text('key\tbody\tyear\na\t巴黎\t1999\nb\t"say ""hi"",\nthen go"\t2001\n', "utf-8")
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "t.parquet")
    expected = [(r["key"], r["body"], {"year": r["year"]}) for r in records]
    for name in ("t.jsonl", "t.jsonl.gz", "t.csv", "t.tsv", "t.parquet", "g.csv"):
        encoding = "gb18030" if name == "g.csv" else "utf-8-sig"
        found = read(tmp_path / name, text="body", id="key", encoding=encoding)
        assert [(d.id, d.text, d.metadata) for d in found] == expected, name
        assert all(d.named and d.kind == "record" for d in found)


def test_dates_of_tables_become_texts(tmp_path: Path) -> None:
    table = pa.table({"text": ["x"], "day": pa.array([18000], pa.date32()), "none": pa.array([None], pa.string())})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet")[0].metadata == {"day": "2019-04-14"}


def test_data_sets_and_whatever_gives_dicts() -> None:
    import datasets

    records = [{"text": "one", "lang": "en"}, {"text": "two", "lang": "en"}]

    def generator() -> Iterator[dict[str, str]]:
        yield from records

    for source in (records, generator(), datasets.Dataset.from_list(records)):
        assert read(source) == [
            Document(f"record#{i}", r["text"], f"record {i}", {"lang": "en"}) for i, r in enumerate(records)
        ]
    assert Documents(records, Columns(), "utf-8").total == 2
    assert Documents(generator(), Columns(), "utf-8").total is None


@pytest.mark.parametrize(
    ("name", "content", "where", "reason"),
    [
        ("a.jsonl", b'{"text": "x"\n', "a.jsonl:1", "not JSON"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1", "expected a JSON object, not list"),
        ("a.jsonl", b'{"text": "\xff"}\n', "a.jsonl:1", "not JSON"),
        ("a.jsonl", b'{"body": "x"}\n', "a.jsonl:1", "the column 'text' is missing; there are body"),
        ("a.jsonl", b'{"text": 1}\n', "a.jsonl:1", "the column 'text' is no text"),
        ("a.jsonl", b'{"text": "x", "id": [1]}\n', "a.jsonl:1", "the id is a list"),
        ("a.jsonl", b'{"text": "x", "title": 1}\n', "a.jsonl:1", "the title is a int"),
        ("a.jsonl", b'{"text": "x", "metadata": 1}\n', "a.jsonl:1", "the metadata is a int"),
        ("a.jsonl", b'{"text": "' + b"x" * (50 << 20) + b'"}\n', "a.jsonl:1", "longer than 16,777,216 bytes"),
        ("a.csv", b"text,b\nx,1,2\n", "a.csv:2", "more cells than columns"),
    ],
)
def test_a_bad_record_does_not_stop_the_others(
    tmp_path: Path, name: str, content: bytes, where: str, reason: str
) -> None:
    good = b'{"text": "good"}\n' if name == "a.jsonl" else b"good,1\n"
    (tmp_path / name).write_bytes(content + good)
    rejected, kept = read(tmp_path / name)
    assert isinstance(rejected, Reject)
    assert rejected.where == where
    assert reason in rejected.reason
    assert isinstance(kept, Document)
    assert kept.text == "good"


def test_a_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("你好".encode("gb18030"))
    (tmp_path / "b.csv").write_bytes("text\n你好\n".encode("gb18030"))
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 1000)[:40])
    (tmp_path / "e.txt").symlink_to(tmp_path / "nowhere.txt")
    (tmp_path / "z.txt").write_text("good", "utf-8")
    found = read(tmp_path)
    rejected = {item.where.split("/")[-1].split(":")[0]: item.reason for item in found if isinstance(item, Reject)}
    assert rejected.keys() == {"a.txt", "b.csv", "c.parquet", "d.jsonl.gz"}
    assert "is not utf-8-sig" in rejected["a.txt"]
    assert "say its encoding" in rejected["b.csv"]
    assert "cannot be read" in rejected["c.parquet"]
    assert "cannot be read" in rejected["d.jsonl.gz"]
    assert found[-1].text == "good"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere", "no file or folder"),
        ("x.pdf", "files to index end in"),
        (".", "nothing to index"),
        (5, "a source is"),
        ({"text": "x"}, "a source is"),
    ],
)
def test_what_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: object, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pdf").write_bytes(b"%PDF")
    with pytest.raises(InvalidInput, match=reason):
        read(source)
