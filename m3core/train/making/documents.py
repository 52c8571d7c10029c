"""The structure of HTML and Markdown: headings, the text below each, questions with answers.

Markdown becomes HTML first, so that there is one rule for both, and for HTML within Markdown.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from m3core.errors import InvalidInput, MissingDependency
from m3core.train.making.wording import one_line

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_INLINE = {
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "br", "cite", "code", "data", "del", "dfn", "em", "font", "i",
    "ins", "kbd", "label", "mark", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike", "strong", "sub",
    "sup", "time", "tt", "u", "var", "wbr",
}  # fmt: skip
_LEFT_OUT = {
    "aside", "audio", "button", "canvas", "embed", "fieldset", "figure", "footer", "form", "head", "iframe", "img",
    "input", "map", "math", "nav", "noscript", "object", "pre", "script", "select", "style", "svg", "table", "template",
    "textarea", "video",
}  # fmt: skip
_ROLES = {"banner", "complementary", "contentinfo", "menu", "navigation", "search", "toolbar"}
_CLASSES = re.compile(
    r"nav|nav-?(bar|header|footer|igation).*|toc|toc-?tree.*|table-of-contents|list-of-.*|(sphinx)?sidebar.*"
    r"|breadcrumbs?|menu|footer|related|headerlink|legalnotice|cookie.*|footnotes?"
)
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w.:-]+)|encoding\s*=\s*[\"']([\w.:-]+)", re.I)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$", re.M | re.S)
_FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.M)
_PERMALINK = re.compile(r"[\s¶#§🔗]+$")
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
    return _document(_decoded(data, name), "")


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
    return _document(MarkdownIt("commonmark").enable("table").render(text), title)


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        stated = _CHARSET.search(data[:4096])
        encoding = (stated[1] or stated[2]).decode("ascii").lower() if stated else "utf-8"
        if encoding in ("gb2312", "gbk"):
            encoding = "gb18030"  # which they are parts of, and which many pages mean
        try:
            return data.decode(codecs.lookup(encoding).name)
        except (LookupError, UnicodeDecodeError):
            raise InvalidInput(
                f"{name} is neither UTF-8 ({error}) nor in an encoding that it declares: convert it, or leave it out"
            ) from error


def _document(text: str, title: str) -> Document:
    try:
        from lxml import etree, html
    except ImportError as error:
        raise MissingDependency("HTML and Markdown need lxml: pip install 'm3-retrieval[train]'") from error
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = html.document_fromstring(text.encode(), parser=parser)
    except etree.ParserError:  # nothing in it
        return Document(title, ())
    title = title or one_line(root.findtext(".//title") or "")
    for content in (root.xpath("//main | //*[@role='main']"), root.xpath("//article"), root.xpath("//body")):
        if len(content) == 1:
            root = content[0]
            break
    for element in root.xpath(".//*"):
        if _is_left_out(element) and element.getparent() is not None:
            element.drop_tree()
    questions = tuple(_marked_questions(root))
    sections = tuple(_sections(_blocks(root)))
    first = next((section.headings[-1] for section in sections if section.headings), "")
    return Document(first or title, sections, questions)


def _is_left_out(element: Any) -> bool:
    return (
        element.tag in _LEFT_OUT
        or (element.tag == "header" and element.find(".//h1") is None)
        or element.get("role") in _ROLES
        or "hidden" in element.attrib
        or any(_CLASSES.fullmatch(name) for name in (element.get("class") or "").lower().split())
    )


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
    from lxml import etree

    pieces: list[tuple[str, bool]] = []
    links = level = 0

    def text() -> str:
        line = one_line("".join(piece for piece, _ in pieces))
        linked = sum(len(piece) for piece, is_linked in pieces if is_linked)
        is_navigation = not level and linked > _LINKED * len(line)
        pieces.clear()
        return "" if is_navigation else _PERMALINK.sub("", line) if level else line

    for event, element in etree.iterwalk(root, events=("start", "end")):
        is_block = element.tag not in _INLINE
        if is_block and (line := text()):
            yield level, line
        if event == "start":
            level = _HEADINGS.get(element.tag, level)
            links += element.tag == "a"
            added = "\n" if element.tag == "br" else element.text
        else:
            level = 0 if element.tag in _HEADINGS else level
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
