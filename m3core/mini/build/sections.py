"""Headings and their sections from unpacked documentation packages, and those that are there in both languages."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from m3core.mini.build.documents import documents
from m3core.mini.build.texts import Pair
from m3core.train.making.documents import Document, read_html
from m3core.train.making.pairs import telling
from m3core.wording import is_chinese, one_line, words

Language = Literal["zh", "en"]

_TAG = re.compile(r"(?:^|[-_.])(zh[-_]cn|zh|en[-_]us|en)(?=$|[-_.])", re.I)
_SHORTEST = {"zh": 25, "en": 12}  # words, of which a Chinese character is one


def document_pairs(root: Path) -> Iterator[Pair]:
    """Pairs of the pages below a folder that may be trained with, page by page.

    A page says its language in its path (`zh-CN`, `ch03.en.html`, …), and is the same in another language where nothing
    else in the path differs. One that does not say is the English version of a Chinese page, or left out. Two versions
    that have the same headings, by number and level, have the same sections.

    Args:
        root: holds one folder for each of `PACKAGES`.

    Yields:
        For each section a pair of its own language; for one in both languages also a `"zh2en"` pair and an `"en2zh"`
        pair behind it.

    Raises:
        InvalidInput: a page that cannot be decoded.
        MissingDependency: lxml is not installed.
    """
    pages: dict[str, dict[Language, Path]] = {}
    unsaid: dict[str, Path] = {}
    for path in documents(root):
        page, language = _page(path.relative_to(root))
        if language:
            pages.setdefault(page, {})[language] = path
        else:
            unsaid[page] = path
    for page, versions in pages.items():
        if page in unsaid:
            versions.setdefault("en", unsaid[page])
        read = {language: read_html(path.read_bytes(), str(path)) for language, path in sorted(versions.items())}
        found = {language: [*_sections(document, language)] for language, document in read.items()}
        for sections in found.values():
            yield from filter(None, sections)
        if len(found) == 2 and _outline(read["zh"]) == _outline(read["en"]):
            for chinese, english in zip(found["zh"], found["en"], strict=True):
                if chinese and english:
                    yield Pair("zh2en", chinese.query, english.passage)
                    yield Pair("en2zh", english.query, chinese.passage)


def _page(path: Path) -> tuple[str, Language | None]:
    """What a page is called in all languages, and which one it says that it is in."""
    tags = {tag[:2].lower() for part in path.parts for tag in _TAG.findall(part)}
    page = "/".join(filter(None, (_TAG.sub("", part) for part in path.parts)))
    return page, "zh" if "zh" in tags else "en" if "en" in tags else None


def _outline(document: Document) -> list[int]:
    return [len(section.headings) for section in document.sections]


def _sections(document: Document, language: Language) -> Iterator[Pair | None]:
    """A pair of each section, or `None` for one that says too little, or in another language."""
    for section in document.sections:
        heading = telling([document.title, *section.headings])
        text = one_line("\n".join(section.paragraphs))
        is_good = words(text) >= _SHORTEST[language] and is_chinese(text) == (language == "zh")
        yield Pair(language, heading, text) if heading and is_good else None
