"""The structure of HTML and Markdown: headings, the text below each, questions with answers.

Markdown becomes HTML first, so that there is one rule for both, and for HTML within Markdown.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from m3core.errors import InvalidInput, MissingDependency
from m3core.pages import HEADINGS, INLINE, decoded, load_lxml, parsed, without_permalink
from m3core.wording import one_line

_LEFT_OUT = ("aside", "fieldset", "figure", "form", "pre", "table", ".footnote", ".footnotes", ".legalnotice")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$", re.M | re.S)
_FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.M)
_LINKED = 0.5  # a block with a larger share of its characters in links is navigation

QUESTION = re.compile(r"[?？]\s*$")
"""How a heading ends that is a question."""


@dataclass(frozen=True)
class Section:
    """A heading and the text below it, up to the next heading of any level.

    Attributes:
        headings: from the outermost down to its own; empty for what comes before the first.
        paragraphs: one line each. No code, tables or navigation.
    """

    headings: tuple[str, ...]
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A text with its structure.

    Attributes:
        title: the first heading, or else what the file calls itself; may be empty.
        sections: in the file's order.
        questions: questions and answers that are marked up as such: `<details>`, and `<dt>` with `<dd>`.
    """

    title: str
    sections: tuple[Section, ...]
    questions: tuple[tuple[str, str], ...] = ()


def read_html(data: bytes, name: str) -> Document:
    """Reads a page. Where it has a `<main>` or an `<article>`, that is the page.

    Left out are navigation (by element, role and class, and blocks that are mostly links), code blocks, tables,
    figures, forms and scripts.

    Args:
        data: in UTF-8, or in the encoding that the page declares.
        name: of the file, for errors.

    Raises:
        InvalidInput: it is in neither.
        MissingDependency: lxml is not installed.
    """
    return _document(decoded(data, name), name, "")


def read_markdown(data: bytes, name: str) -> Document:
    """Reads CommonMark with tables; front matter is only looked at for a title.

    Args:
        data: in UTF-8.
        name: of the file, for errors.

    Raises:
        InvalidInput: it is not UTF-8.
        MissingDependency: markdown-it-py or lxml is not installed.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise MissingDependency("Markdown needs markdown-it-py: pip install 'm3-retrieval[train]'") from error
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8 ({error}): convert it, or leave it out") from error
    title = ""
    if front := _FRONT_MATTER.match(text):
        text = text[front.end() :]
        if stated := _FRONT_TITLE.search(front[1]):
            title = stated[1].strip("\"'")
    return _document(MarkdownIt("commonmark").enable("table").render(text), name, title)


def _document(text: str, name: str, title: str) -> Document:
    page = parsed(text, name, _LEFT_OUT)
    title = title or page.title
    if page.root is None:
        return Document(title, ())
    questions = tuple(_marked_questions(page.root))
    sections = tuple(_sections(_blocks(page.root)))
    first = next((section.headings[-1] for section in sections if section.headings), "")
    return Document(first or title, sections, questions)


def _marked_questions(root: Any) -> Iterator[tuple[str, str]]:
    """Questions with answers; they are taken out of the tree."""
    for details in root.xpath(".//details[summary]"):
        summary = details.find("summary")
        question = one_line(summary.text_content())
        if QUESTION.search(question):
            summary.drop_tree()
            yield question, "\n".join(text for _, text in _blocks(details))
            details.drop_tree()
    for term in root.xpath(".//dt[following-sibling::*[1][self::dd]]"):
        question = one_line(term.text_content())
        if QUESTION.search(question):
            answer = term.getnext()
            yield question, "\n".join(text for _, text in _blocks(answer))
            answer.drop_tree()
            term.drop_tree()


def _blocks(root: Any) -> Iterator[tuple[int, str]]:
    """The texts of a tree, line by line: each with its level if it is a heading, or else 0."""
    pieces: list[tuple[str, bool]] = []
    links = level = 0

    def text() -> str:
        line = one_line("".join(piece for piece, _ in pieces))
        linked = sum(len(piece) for piece, is_linked in pieces if is_linked)
        is_navigation = not level and linked > _LINKED * len(line)
        pieces.clear()
        return "" if is_navigation else without_permalink(line) if level else line

    for event, element in load_lxml()[0].iterwalk(root, events=("start", "end")):
        is_block = element.tag not in INLINE
        if is_block and (line := text()):
            yield level, line
        if event == "start":
            level = HEADINGS.get(element.tag, level)
            links += element.tag == "a"
            added = "\n" if element.tag == "br" else element.text
        else:
            level = 0 if element.tag in HEADINGS else level
            links -= element.tag == "a"
            added = None if element is root else element.tail
        if added:
            pieces.append((added, links > 0))


def _sections(blocks: Iterator[tuple[int, str]]) -> Iterator[Section]:
    above: list[tuple[int, str]] = []
    paragraphs: list[str] = []
    for level, line in blocks:
        if not level:
            paragraphs.append(line)
            continue
        if above or paragraphs:
            yield Section(tuple(heading for _, heading in above), tuple(paragraphs))
        paragraphs = []
        above = [*((rank, heading) for rank, heading in above if rank < level), (level, line)]
    if above or paragraphs:
        yield Section(tuple(heading for _, heading in above), tuple(paragraphs))
