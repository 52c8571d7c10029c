"""Training records of any of the usual kinds, each brought into one form; what cannot be used is named.

The kind is that of a source's first record, told by its columns; other columns are ignored.

| kind | columns |
|---|---|
| BGE's | `query`, `pos`, and if there are: `neg`, `pos_scores`, `neg_scores`, `prompt`, `type` |
| uniem's | `text`, `text_pos`, and if there is: `text_neg` |
| pairs, triplets | `anchor`, `query` or `question`; `positive` or `answer`; any number of `negative`, `negative_1`, … |
| texts that belong together | `sentence1`, `sentence2`; `title`, `text`; `title`, `body` |
| scored pairs | `sentence1`, `sentence2`, `label` or `score` |

Every column of texts takes one text or a list of them, but for the query.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3core.checks import check_text
from m3core.errors import InvalidInput
from m3core.evaluation.beir import load_beir
from m3core.records import read_objects

LONGEST_LINE = 8 << 20
"""Bytes. A record is some texts; a longer line is most often a file without line breaks."""

_NEGATIVES = r"negatives?(_\d+)?"
_SHAPES = (
    ("query", "pos", r"neg"),
    ("text", "text_pos", r"text_neg"),
    *(
        (query, answer, r"negatives?(_\d+)?")
        for query in ("anchor", "query", "question")
        for answer in ("positive", "answer")
    ),
    ("sentence1", "sentence2", r"negatives?(_\d+)?"),
    ("title", "text", None),
    ("title", "body", None),
)
_LABELS = ("label", "score")


@dataclass(frozen=True)
class Example:
    """A query with passages that answer it and such that do not.

    Attributes:
        query: its text.
        positives: at least one.
        negatives: hard ones, if there are.
        scores: what a teacher gives the positives and then the negatives, if it was asked.
        prompt: goes before the query.
        kind: BGE's `type`, which says how to train with it; see `m3core.train.batches`.
    """

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    prompt: str = ""
    kind: str = ""


@dataclass(frozen=True)
class ScoredPair:
    """Two texts and how similar they are.

    Attributes:
        text: one.
        other: the other one.
        score: the higher, the more similar; only the order counts.
    """

    text: str
    other: str
    score: float


TrainingRecord = Example | ScoredPair
Source = str | Path | Iterable[Mapping[str, Any]]
"""A JSON-lines file, a folder in BEIR layout, or anything that gives dicts: a list, a data set of `datasets`."""


def read_examples(source: Source, *, split: str = "train") -> Iterator[TrainingRecord]:
    """The records of a source, all of one kind; read as they are iterated.

    Args:
        source: see `Source`.
        split: which judgements of a BEIR folder that has several.

    Raises:
        InvalidInput: there is no such file, it has no records, or one that cannot be used, named by file and line.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            yield from _judged(path, split)
            return
        records: Iterator[tuple[str, Mapping[str, Any]]] = iter(read_objects(path, longest=LONGEST_LINE))
        name = str(path)
    elif isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
        records, name = _objects(source), "the list of records"
    else:
        raise InvalidInput(f"training records come from a file, a folder or a list of dicts, not {source!r}")
    read = None
    for where, record in records:
        read = read or _reader(record, where)
        yield read(record, where)
    if read is None:
        raise InvalidInput(f"{name} is empty")


def _objects(source: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, record in enumerate(source):
        if not isinstance(record, Mapping):
            raise InvalidInput(f"record {number} is no dict but {type(record).__name__}")
        yield f"record {number}", record


def _judged(folder: Path, split: str) -> Iterator[Example]:
    """A query, its passages of positive grade, and as negatives those that were judged irrelevant."""
    judged = load_beir(folder, split=split)
    passages = dict(zip(judged.corpus.ids, judged.corpus.texts, strict=True))
    for query, text in zip(judged.queries.ids, judged.queries.texts, strict=True):
        grades = judged.qrels[query]
        positives = tuple(passages[i] for i, grade in grades.items() if grade > 0)
        negatives = tuple(passages[i] for i, grade in grades.items() if grade <= 0)
        if positives:
            yield _checked(Example(text, positives, negatives), f"{folder}: query {query!r}")


def _reader(first: Mapping[str, Any], where: str) -> "_Scored | _Shape":
    """What reads records like the first one."""
    if "sentence1" in first and "sentence2" in first:
        for label in _LABELS:
            if label in first:
                return _Scored(label)
    for query, positive, negative in _SHAPES:
        if query in first and positive in first:
            return _Shape(query, positive, negative)
    known = "; ".join(f"{query}, {positive}" for query, positive, _ in _SHAPES)
    raise InvalidInput(f"{where}: no known columns among {sorted(first)}; a record has either of: {known}")


@dataclass(frozen=True)
class _Scored:
    label: str

    def __call__(self, record: Mapping[str, Any], where: str) -> ScoredPair:
        pair = [_text(record.get(key), f"{where}: {key}") for key in ("sentence1", "sentence2")]
        return ScoredPair(pair[0], pair[1], _number(record.get(self.label), f"{where}: {self.label}"))


@dataclass(frozen=True)
class _Shape:
    query: str
    positive: str
    negative: str | None

    def __call__(self, record: Mapping[str, Any], where: str) -> Example:
        pattern = re.compile(self.negative or "(?!)")
        negatives = [_texts(value, f"{where}: {key}") for key, value in record.items() if pattern.fullmatch(key)]
        scores: tuple[float, ...] = ()
        prompt = kind = ""
        positives = _texts(record.get(self.positive), f"{where}: {self.positive}")
        if self.positive == "pos":
            scores = _scores(record, len(positives), sum(map(len, negatives)), where)
            prompt, kind = (_optional(record, key, where) for key in ("prompt", "type"))
        query = _text(record.get(self.query), f"{where}: {self.query}")
        return _checked(Example(query, positives, sum(negatives, ()), scores, prompt, kind), where)


def _checked(example: Example, where: str) -> Example:
    if not example.positives:
        raise InvalidInput(f"{where}: the query {example.query[:60]!r} has no positive passage")
    both = set(example.positives) & set(example.negatives)
    if both:
        raise InvalidInput(f"{where}: {min(both)[:60]!r} is a positive and a negative passage")
    return example


def _text(value: object, name: str) -> str:
    if not check_text(value, name).strip():
        raise InvalidInput(f"{name} is empty")
    assert isinstance(value, str)
    return value


def _texts(value: object, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (_text(value, name),)
    if not isinstance(value, list | tuple):
        raise InvalidInput(f"{name} must be a text or a list of texts, not {type(value).__name__}")
    return tuple(_text(text, f"{name}[{i}]") for i, text in enumerate(value))


def _optional(record: Mapping[str, Any], key: str, where: str) -> str:
    return check_text(record.get(key) or "", f"{where}: {key}")


def _scores(record: Mapping[str, Any], positives: int, negatives: int, where: str) -> tuple[float, ...]:
    """The scores of all passages, or none."""
    given = {key: record.get(key) for key in ("pos_scores", "neg_scores")}
    if not any(given.values()):
        return ()
    scores: list[float] = []
    for (key, values), passages in zip(given.items(), (positives, negatives), strict=True):
        values = [] if values is None else values
        if not isinstance(values, list | tuple) or len(values) != passages:
            raise InvalidInput(f"{where}: {key} must be a list of {passages} numbers, one for each passage")
        scores += [_number(value, f"{where}: {key}[{i}]") for i, value in enumerate(values)]
    return tuple(scores)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput(f"{name} must be a finite number, not {value!r}")
    return float(value)
