"""Training records of every kind, and every way in which one can be bad, named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from m3core import InvalidInput
from m3core.train.records import Example, ScoredPair, read_examples


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"query": "q", "pos": ["a", "b"], "neg": ["c"]}, Example("q", ("a", "b"), ("c",))),
        (
            {
                "query": "q",
                "pos": ["a"],
                "neg": ["c"],
                "pos_scores": [2],
                "neg_scores": [-1.5],
                "prompt": "p: ",
                "type": "t",
            },
            Example("q", ("a",), ("c",), (2.0, -1.5), "p: ", "t"),
        ),
        ({"query": "q", "pos": "a", "id": 7, "source": ["?"]}, Example("q", ("a",))),
        ({"text": "q", "text_pos": "a", "text_neg": "c"}, Example("q", ("a",), ("c",))),
        ({"text": "q", "text_pos": "a"}, Example("q", ("a",))),
        ({"anchor": "q", "positive": "a", "negative_1": "c", "negative_2": "d"}, Example("q", ("a",), ("c", "d"))),
        ({"query": "q", "positive": "a", "negatives": ["c", "d"]}, Example("q", ("a",), ("c", "d"))),
        ({"question": "q", "answer": "a", "url": None}, Example("q", ("a",))),
        ({"sentence1": "q", "sentence2": "a"}, Example("q", ("a",))),
        ({"title": "q", "text": "a", "_id": "7"}, Example("q", ("a",))),
        ({"sentence1": "q", "sentence2": "a", "label": 1}, ScoredPair("q", "a", 1.0)),
        ({"sentence1": "q", "sentence2": "a", "score": 0.5}, ScoredPair("q", "a", 0.5)),
    ],
)
def test_kinds_are_told_by_their_columns(tmp_path: Path, record: dict[str, Any], expected: object) -> None:
    assert list(read_examples([record])) == [expected]
    assert list(read_examples(write(tmp_path / "a.jsonl", record))) == [expected]


def test_compressed_files_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'\n{"query": "q", "pos": "a"}\n\n'))
    assert list(read_examples(path)) == [Example("q", ("a",))]


def test_columns_that_datasets_fills_with_nothing(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"query": "q", "pos": ["a"], "neg": ["b"]}, {"query": "r", "pos": ["c"]}])
    assert [e.negatives for e in read_examples(rows)] == [("b",), ()]
    assert [e.negatives for e in read_examples(rows.to_iterable_dataset())] == [("b",), ()]


def test_a_beir_folder(debate: Path) -> None:
    examples = list(read_examples(debate))
    assert len(examples) == 176
    assert all(isinstance(e, Example) and e.positives for e in examples)


GOOD = {"query": "q", "pos": ["a"]}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"query": "q", "pos": []}, "no positive passage"),
        ({"query": "q"}, "no positive passage"),
        ({"query": "q", "pos": ["a", " "]}, r"pos\[1\] is empty"),
        ({"query": "", "pos": ["a"]}, "query is empty"),
        ({"query": None, "pos": ["a"]}, "query is None"),
        ({"query": 3, "pos": ["a"]}, "query is int"),
        ({"query": "q", "pos": [3]}, r"pos\[0\] is int"),
        ({"query": "q", "pos": {"a": 1}}, "pos must be a text or a list"),
        ({"query": "q", "pos": ["a"], "neg": ["a"]}, "a positive and a negative"),
        ({"query": "q", "pos": ["a"], "neg": ["\ud800"]}, "lone surrogate"),
        ({"query": "q", "pos": ["a"], "prompt": 1}, "prompt is int"),
        ({"query": "q", "pos": ["a"], "neg": ["b"], "pos_scores": [1.0]}, "neg_scores must be a list of 1"),
        ({"query": "q", "pos": ["a"], "pos_scores": [float("nan")], "neg_scores": []}, "finite number, not nan"),
        ({"query": "q", "pos": ["a"], "pos_scores": [True]}, "finite number, not True"),
        ({"query": "q", "pos": ["a"], "pos_scores": "high"}, "pos_scores must be a list"),
        ([1], "expected a JSON object"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(tmp_path: Path, bad: Any, reason: str) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, bad)
    with pytest.raises(InvalidInput, match=f"a.jsonl:2.*{reason}"):
        list(read_examples(path))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b'{"query": "\xff\xfe", "pos": "a"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"query": "q", "pos": "' + b"a" * 10_000_000 + b'"}', "longer than 8,388,608 bytes"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"query": "q", "pos": "a"}\n' + line + b"\n")
    with pytest.raises(InvalidInput, match=f"a.jsonl:2: {reason}"):
        list(read_examples(path))


def test_a_score_that_is_no_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *({"sentence1": "a", "sentence2": "b", "label": v} for v in (1, float("inf"))))
    with pytest.raises(InvalidInput, match=r"a\.jsonl:2: label must be a finite number, not inf"):
        list(read_examples(path))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ([], "is empty"),
        ([{"a": 1}], r"record 0: no known columns among \['a'\]"),
        ([GOOD, "q"], "record 1 is no dict"),
        ({"query": "q"}, "from a file, a folder or a list"),
        ("nowhere.jsonl", "there is no file nowhere.jsonl"),
    ],
)
def test_a_source_that_is_none(source: Any, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        list(read_examples(source))


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"query": "q", "pos": "a"}\n' * 100)[:-9])
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(read_examples(path))


def test_an_id_that_stands_twice_in_a_beir_folder(tmp_path: Path) -> None:
    write(tmp_path / "corpus.jsonl", {"_id": "1", "text": "a"}, {"_id": "1", "text": "b"})
    write(tmp_path / "queries.jsonl", {"_id": "1", "text": "a"})
    (tmp_path / "qrels.tsv").write_text("1\t1\t1\n")
    with pytest.raises(InvalidInput, match="the _id '1' stands twice"):
        list(read_examples(tmp_path))
