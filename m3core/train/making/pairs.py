"""Weakly supervised pairs from structure, as in BGE-M3's unsupervised stage (arXiv 2402.03216, section 3.1).

A title and the text below it, a heading and its section, a question and its answer. What is kept:

- A text has at least `min_words` words, where a Chinese character is a word, and is cut at the end of a paragraph
  before `max_words`. At least half of its characters are letters, which digits are not.
- A heading loses its number ("3.1", "第二章", "Chapter 4."). One that says little by itself (a single English word, two
  Chinese characters, a version, "Getting started") goes behind the nearest heading above that says more; if there is
  none, the pair is dropped.
- Sections that only point elsewhere (contents, references, 参见) or that every project has (licence, contributors,
  致谢) are left out.
- Each query and each text comes once, the first one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from m3core.checks import check_text
from m3core.errors import InvalidInput
from m3core.records import read_objects
from m3core.train.making.documents import QUESTION, Document, read_html, read_markdown
from m3core.wording import is_chinese, key, one_line, words

PairKind = Literal["title", "heading", "question"]
PAIR_KINDS: tuple[PairKind, ...] = get_args(PairKind)

_MARKDOWN, _HTML, _JSON = (".md", ".markdown"), (".html", ".htm", ".xhtml"), (".jsonl",)
SUFFIXES = (*_MARKDOWN, *_HTML, *_JSON)

_COLUMNS: tuple[tuple[PairKind, tuple[str, ...], tuple[str, ...]], ...] = (
    ("title", ("title",), ("text", "body", "content")),
    ("heading", ("heading",), ("section", "text", "body", "content")),
    ("question", ("question",), ("answer",)),
)
_NUMBER = re.compile(
    r"^\s*(?:第\s*[\d一二三四五六七八九十百]+\s*[章节節部篇回]\s*[.．、:：]?"
    r"|附录\s*[A-Z\d]+\s*[.．、:：]?"
    r"|(?:chapter|section|appendix|part)\s+(?:\d[\d.]*|[A-Z]|[IVX]+)\s*[.:：—–-]"
    r"|[一二三四五六七八九十]+、"
    r"|(?:[A-Z]\.)?\d+(?:\.\d+)*[.)）、．](?=\D)|(?:[A-Z]\.|\d+\.)\d+(?:\.\d+)*(?=\s))\s*",
    re.I,
)
_VAGUE = re.compile(
    "getting started|quick start|read me|how to use|how it works|more information|known issues|this document|the basics"
    "|概述与简介|使用方法|使用说明|快速开始|快速入门|基本用法|更多信息|注意事项|常见问题|其他信息|其它信息"
)
_LEFT_OUT = re.compile(
    "contents|table of contents|index|references|bibliography|see also|further reading|external links|links|license"
    "|licence|licensing|copyright|copyright notice|legal notice|credits|contributors|contributing|acknowledgements"
    "|acknowledgments|thanks|authors?|change ?log|list of tables|list of figures|navigation|related topics"
    "|目录|目次|索引|参考|参考资料|参考文献|参见|另见|延伸阅读|外部链接|链接|许可|许可证|许可协议|版权|版权声明|版权信息|致谢|鸣谢"
    "|贡献者|作者|译者|更新日志|变更日志|变更记录|修订历史|相关链接|相关主题"
)
_QUESTION_MARK = re.compile(r"^(?:Q|Question|问|问题)\s*\d*\s*[:：.、]\s*(?=\S)", re.I)
_ANSWER_MARK = re.compile(r"^(?:A|Answer|答|回答)\s*\d*\s*[:：.、]\s*", re.I)
_LETTERS = 0.5  # of the characters that are no space; less is a table, a log, or drawn in characters
_LONGEST_QUERY = 60  # words


@dataclass(frozen=True)
class Pair:
    """A text and what it is about.

    Attributes:
        kind: from which structure it is.
        query: a title, a heading or a question.
        text: what it stands above.
    """

    kind: PairKind
    query: str
    text: str


def pair_files(sources: Iterable[str | Path]) -> list[Path]:
    """The files of some files and folders that pairs can be made of: Markdown, HTML and JSON lines.

    Args:
        sources: a folder stands for all files below it with one of `SUFFIXES`, in order of their paths; what begins
            with a dot is passed over.

    Raises:
        InvalidInput: a source that does not exist, a file of another kind, or a folder without any.
    """
    files: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            found = [path for path in sorted(source.rglob("*")) if _is_source(path, source)]
            if not found:
                raise InvalidInput(f"there is no file {', '.join(f'*{s}' for s in SUFFIXES)} in {source}")
            files += found
        elif not source.is_file():
            raise InvalidInput(f"there is no file or folder {source}")
        elif source.suffix.lower() not in SUFFIXES:
            raise InvalidInput(f"pairs come from {', '.join(f'*{s}' for s in SUFFIXES)}, and {source} is none of them")
        else:
            files.append(source)
    return list(dict.fromkeys(files))


def raw_pairs(path: Path) -> Iterator[Pair]:
    """All pairs that a file holds, as they are; most are for `Cleaning` to judge.

    Raises:
        InvalidInput: a file that is not UTF-8, or a line that holds no pair, named by file and line.
        MissingDependency: the extra `train` is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in _JSON:
        for where, record in read_objects(path):
            yield from _of_columns(record, where)
    elif suffix in _HTML:
        yield from _of_document(read_html(path.read_bytes(), str(path)))
    else:
        yield from _of_document(read_markdown(path.read_bytes(), str(path)))


class Cleaning:
    """Passes on pairs that are worth training with, and counts the others.

    Attributes:
        dropped: how many pairs it left out, by reason.
    """

    def __init__(self, *, kinds: Sequence[PairKind] = PAIR_KINDS, min_words: int = 20, max_words: int = 5000) -> None:
        """Has seen no pair yet.

        Args:
            kinds: which kinds to pass on.
            min_words: of a text; a Chinese character is a word.
            max_words: the same. 5,000 are about the 8,192 tokens that bge-m3 reads.

        Raises:
            InvalidInput: no or unknown kinds, or no room between `min_words` and `max_words`.
        """
        if not kinds or not set(kinds) <= set(PAIR_KINDS):
            raise InvalidInput(f"kinds of pairs are {', '.join(PAIR_KINDS)}, not {', '.join(kinds) or 'none'}")
        if not 1 <= min_words < max_words:
            raise InvalidInput(f"min_words must be at least 1 and below max_words, not {min_words} and {max_words}")
        self._kinds, self._min, self._max = kinds, min_words, max_words
        self._seen: set[int] = set()
        self.dropped: Counter[str] = Counter()

    def __call__(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Those of the pairs that are good and new."""
        for pair in pairs:
            if pair.kind not in self._kinds:
                continue
            query, text = one_line(pair.query), self._cut(pair.text)
            reason = self._objection(query, text)
            if reason:
                self.dropped[reason] += 1
            else:
                yield Pair(pair.kind, query, text)

    def _cut(self, text: str) -> str:
        lines: list[str] = []
        room = self._max
        for line in filter(None, map(one_line, text.splitlines())):
            room -= words(line)
            if room < 0 and lines:
                break
            lines.append(line)
        return "\n".join(lines)

    def _objection(self, query: str, text: str) -> str | None:
        length = words(text)
        if not query or says_little(query):
            return "no telling heading"
        if words(query) > _LONGEST_QUERY:
            return "heading too long"
        if length < self._min:
            return "text too short"
        if length > self._max:
            return "text too long"  # a single paragraph
        visible = re.sub(r"\s", "", text)
        if sum(map(str.isalpha, visible)) < _LETTERS * len(visible):
            return "not prose"
        marks = [hash(("query", key(query).casefold())), hash(("text", key(text)))]
        if not self._seen.isdisjoint(marks):
            return "repeated"
        self._seen.update(marks)
        return None


def says_little(heading: str) -> bool:
    """Whether a heading means nothing without those above it."""
    bare = re.sub(r"\d+", " ", heading).strip(" .:：。").casefold()  # a version or a date is no subject
    return bool(_VAGUE.fullmatch(bare) or words(bare) < 2 or (is_chinese(bare) and words(bare) <= 2))


def telling(headings: Sequence[str]) -> str:
    """The last of some headings, from the outermost down, behind a higher one if it says little; or nothing."""
    plain = [stripped for heading in headings if (stripped := _bare(heading))]
    if not plain:
        return ""
    *above, own = plain
    if not says_little(own):
        return own
    higher = next((heading for heading in reversed(above) if not says_little(heading)), "")
    return f"{higher}: {own}" if higher else ""


def _is_source(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in parts) and path.is_file()


def _of_document(document: Document) -> Iterator[Pair]:
    for question, answer in document.questions:
        yield Pair("question", _bare(question), answer)
    sections = [s for s in document.sections if not any(map(_is_left_out, s.headings))]
    lines: list[str] = []
    for section in sections:
        lines += [*section.headings[-1:], *section.paragraphs]
    title = telling([document.title])
    if len(sections) > 1:
        yield Pair("title", title, "\n".join(line for line in lines if _bare(line) != title))
    for section in sections:
        yield from _questions(section.paragraphs)
        own = telling([document.title, *section.headings])
        kind: PairKind = "question" if QUESTION.search(own) else "heading"
        yield Pair(kind, own, "\n".join(section.paragraphs))


def _bare(heading: str) -> str:
    """A heading without its number."""
    return _NUMBER.sub("", heading).strip(" :：")


def _is_left_out(heading: str) -> bool:
    return _LEFT_OUT.fullmatch(_bare(heading).strip(".。").casefold()) is not None


def _questions(paragraphs: Sequence[str]) -> Iterator[Pair]:
    """Paragraphs that begin with Q: and A:, or 问： and 答：."""
    question, answer = "", list[str]()
    for line in (*paragraphs, ""):
        mark = _QUESTION_MARK.match(line)
        if mark or not line:
            if question and answer:
                yield Pair("question", question, "\n".join(answer))
            question, answer = line[mark.end() :] if mark else "", []
        elif question and (answer or _ANSWER_MARK.match(line)):
            answer.append(_ANSWER_MARK.sub("", line))


def _of_columns(record: Mapping[str, Any], where: str) -> Iterator[Pair]:
    found = False
    for kind, queries, texts in _COLUMNS:
        query = next((name for name in queries if name in record), None)
        text = next((name for name in texts if name in record), None)
        if query is None or text is None:
            continue
        found = True
        values = [check_text(record[name], f"{where}: {name}") for name in (query, text)]
        yield Pair(kind, telling([values[0]]), values[1])
    if not found:
        known = "; ".join(f"{' or '.join(queries)} with {' or '.join(texts)}" for _, queries, texts in _COLUMNS)
        raise InvalidInput(f"{where}: holds no pair, only {', '.join(sorted(record))}; a pair is {known}")
