"""The text that the mini is trained on: headings with their sections, without anything that a judged set holds."""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from m3core.errors import InvalidInput
from m3core.evaluation import JudgedSet
from m3core.records import read_objects
from m3core.wording import key

_HAN = re.compile(r"[\u4e00-\u9fff]")
_ENDS = {"zh": re.compile(r"(?<=[。！？；])"), "en": re.compile(r"(?<=[.!?;]) +")}
_SHORTEST = {"zh": 12, "en": 7}  # Han characters, words
_LONGEST = 240  # characters


@dataclass(frozen=True)
class Pair:
    """A query and the passage that answers it.

    Attributes:
        kind: the language of both, `"zh"` or `"en"`, or of query and passage, `"zh2en"` or `"en2zh"`.
        query: a heading, or a sentence.
        passage: the section that it belongs to.
    """

    kind: str
    query: str
    passage: str


def read_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of a JSON-lines file, gzipped or not: `{"lang": …, "query": …, "pos": [passage, …]}` a line.

    Raises:
        InvalidInput: no such file, or a line that is no such record, named by file and line.
    """
    for where, record in read_objects(path):
        kind, query, passages = record.get("lang"), record.get("query"), record.get("pos")
        if not isinstance(passages, list) or not all(isinstance(text, str) for text in (kind, query, *passages)):
            raise InvalidInput(f"{where}: expected a lang, a query and a list pos, all of text; got {sorted(record)}")
        for passage in passages:
            yield Pair(str(kind), str(query), passage)


def judged_texts(sets: Iterable[JudgedSet]) -> set[str]:
    """Every passage and query of judged sets, their white space as `without` compares it."""
    return {key(text) for judged in sets for text in (*judged.corpus.texts, *judged.queries.texts)}


def without(pairs: Iterable[Pair], judged: Set[str]) -> Iterator[Pair]:
    """The pairs of which neither text is judged. White space does not count."""
    return (pair for pair in pairs if judged.isdisjoint({key(pair.query), key(pair.passage)}))


def divided(pairs: Sequence[Pair], share: float = 0.05) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train with, and pairs of other sections to measure with.

    A section is on one side in both of its languages, by the hash of its English text, or of the only one that it has.

    Args:
        pairs: as of `sentence_pairs`.
        share: of the sections, to measure with.
    """
    english = {chinese: other for other, chinese in _sections(pairs)}
    held = {
        pair.passage
        for pair in pairs
        if int.from_bytes(hashlib.blake2b(english.get(pair.passage, pair.passage).encode(), digest_size=8).digest())
        < share * 2**64
    }
    return [p for p in pairs if p.passage not in held], [p for p in pairs if p.passage in held]


def sentence_pairs(pairs: Sequence[Pair], *, each: int = 3, seed: int = 0) -> list[Pair]:
    """Sentences of a section as queries for the same section in the other language.

    A sentence that several sections have is of none. A judged set can have one as a passage: put these pairs through
    `without` as well.

    Args:
        pairs: a `"zh2en"` pair and an `"en2zh"` pair behind it are of the same section.
        each: how many sentences of each section, drawn at random.
        seed: of the drawing.

    Returns:
        Pairs of the kinds `"zh2en"` and `"en2zh"`.
    """
    found = [
        (kind, list(dict.fromkeys(_sentences(section, kind[:2]))), passage)
        for english, chinese in _sections(pairs)
        for kind, section, passage in (("zh2en", chinese, english), ("en2zh", english, chinese))
    ]
    counts = Counter(sentence for _, sentences, _ in found for sentence in sentences)
    draw = random.Random(seed)  # noqa: S311 (no secret)
    made = []
    for kind, sentences, passage in found:
        own = [sentence for sentence in sentences if counts[sentence] == 1]
        made += [Pair(kind, sentence, passage) for sentence in draw.sample(own, min(each, len(own)))]
    return made


def _sections(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Each section that is there in English and in Chinese."""
    both = (
        (one.passage, other.passage) for one, other in pairwise(pairs) if (one.kind, other.kind) == ("zh2en", "en2zh")
    )
    return list(dict.fromkeys(both))


def _sentences(text: str, language: str) -> Iterator[str]:
    """Those that say something, in the language."""
    for sentence in _ENDS[language].split(text):
        han = len(_HAN.findall(sentence))
        size = han if language == "zh" else len(sentence.split()) * (not han)
        if size >= _SHORTEST[language]:
            yield sentence.strip()[:_LONGEST]
