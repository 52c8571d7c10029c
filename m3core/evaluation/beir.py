"""Reading a judged retrieval set in BEIR layout."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3core.errors import InvalidInput


@dataclass(frozen=True)
class Passages:
    """Texts with ids, in the file's order.

    Attributes:
        ids: one string each.
        texts: title and text together.
        metadata: one dict each, empty where the file has none.
    """

    ids: list[str]
    texts: list[str]
    metadata: list[dict[str, Any]]


@dataclass(frozen=True)
class JudgedSet:
    """Queries, a corpus, and which passages answer which query.

    Attributes:
        name: the folder's name.
        corpus: the passages.
        queries: the judged queries.
        qrels: query id → passage id → grade, 0 being irrelevant.
    """

    name: str
    corpus: Passages
    queries: Passages
    qrels: dict[str, dict[str, int]]


def load_beir(folder: str | Path, *, split: str = "test") -> JudgedSet:
    """Reads `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv` (or `qrels.tsv`) of a folder.

    Queries without judgements in the split are left out.

    Args:
        folder: in the layout of https://github.com/beir-cellar/beir.
        split: which judgements to take where there are several.

    Raises:
        InvalidInput: a file is missing or has a line that cannot be used, named by file and line.
    """
    folder = Path(folder)
    qrels_file = folder / "qrels" / f"{split}.tsv"
    qrels = _read_qrels(qrels_file if qrels_file.is_file() else folder / "qrels.tsv")
    corpus = load_corpus(folder)
    queries = _read_passages(folder / "queries.jsonl")
    for kind, used, known in (
        ("query", set(qrels), set(queries.ids)),
        ("passage", {d for row in qrels.values() for d in row}, set(corpus.ids)),
    ):
        if used - known:
            raise InvalidInput(f"{folder}: judgements name an unknown {kind} {sorted(used - known)[0]!r}")
    judged = [i for i, query in enumerate(queries.ids) if query in qrels]
    kept = Passages(
        [queries.ids[i] for i in judged], [queries.texts[i] for i in judged], [queries.metadata[i] for i in judged]
    )
    return JudgedSet(folder.name, corpus, kept, qrels)


def load_corpus(folder: str | Path) -> Passages:
    """Reads the `corpus.jsonl` of a folder. Raises `InvalidInput` as `load_beir` does."""
    return _read_passages(Path(folder) / "corpus.jsonl")


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON-lines file, each with `path:line` for messages; empty lines are passed over.

    Raises:
        InvalidInput: no such file, a line that is no JSON object, or bytes that are not UTF-8.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:  # malformed JSON, or bytes that are not UTF-8
                raise InvalidInput(f"{where}: not JSON ({error})") from error
            if not isinstance(record, dict):
                raise InvalidInput(f"{where}: expected a JSON object, not {type(record).__name__}")
            yield where, record


def _read_passages(path: Path) -> Passages:
    passages = Passages([], [], [])
    seen: set[str] = set()
    for where, record in read_jsonl(path):
        identifier, text, title = record.get("_id"), record.get("text"), record.get("title") or ""
        if not isinstance(identifier, str | int) or not isinstance(text, str) or not isinstance(title, str):
            raise InvalidInput(f"{where}: expected an _id and a text, in {sorted(record)}")
        if str(identifier) in seen:
            raise InvalidInput(f"{where}: the _id {identifier!r} stands twice")
        seen.add(str(identifier))
        passages.ids.append(str(identifier))
        passages.texts.append(f"{title} {text}".strip())
        passages.metadata.append(record.get("metadata") or {})
    if not passages.ids:
        raise InvalidInput(f"{path} is empty")
    return passages


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    if not path.is_file():
        raise InvalidInput(f"there are no judgements: no file {path}")
    qrels: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t"), start=1):
            if number == 1 and row[-1:] == ["score"]:
                continue
            try:
                query, passage, grade = row
                qrels.setdefault(query, {})[passage] = int(grade)
            except ValueError as error:
                raise InvalidInput(f"{path}:{number}: expected query, passage and a whole grade, not {row}") from error
    return qrels
