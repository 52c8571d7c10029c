"""Reading a judged retrieval set in BEIR layout."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3core.errors import InvalidInput
from m3core.records import read_records


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
    metadata: list[Mapping[str, Any]]


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


def _read_passages(path: Path) -> Passages:
    passages = Passages([], [], [])
    for record in read_records(path):
        passages.ids.append(record.id)
        passages.texts.append(record.text)
        passages.metadata.append(record.metadata)
    twice = [identifier for identifier, n in Counter(passages.ids).items() if n > 1]
    if twice:
        raise InvalidInput(f"{path}: the _id {twice[0]!r} stands twice")
    if not passages.ids:
        raise InvalidInput(f"{path} is empty")
    return passages


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    if not path.is_file():
        raise InvalidInput(f"there are no judgements: no file {path}")
    qrels: dict[str, dict[str, int]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8: {error}") from error
    for number, row in enumerate(csv.reader(lines, delimiter="\t"), start=1):
        if not row or (number == 1 and row[-1] == "score"):
            continue
        try:
            query, passage, grade = row
            qrels.setdefault(query, {})[passage] = int(grade)
        except ValueError as error:
            raise InvalidInput(f"{path}:{number}: expected query, passage and a whole grade, not {row}") from error
    if not qrels:
        raise InvalidInput(f"{path} has no judgements")
    return qrels
