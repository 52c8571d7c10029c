"""What HTML pages say, as Markdown: with headings, lists, tables and code, so that it is split where these end."""

import re
from typing import Any

from m3core.pages import HEADINGS, INLINE, decoded, load_lxml, parsed, without_permalink
from m3core.wording import one_line

_LEFT_OUT = (".docnav", ".lineno", ".linenos", ".toc2")
_BLOCKS = {"blockquote", "dl", "ol", "pre", "table", "ul", *HEADINGS}  # for which a line of a table is no place
_PARAGRAPHS = {"div", "p"}  # one of them is
_INVISIBLE = re.compile("[\u00ad\u200b\ufeff]")  # where a line may be broken
_BREAK = "\v"
_DEEPEST = 8  # items within items that are indented
_FENCE = 3
_BANNER = 300  # characters at most above a page's own heading that are not about what it is about
_CALLED = 100  # characters at most that another place is called by; a link with more says something


def read_page(data: bytes, name: str, encoding: str) -> tuple[str, str]:
    """The title of a page, which may be empty, and what it says as Markdown, without its navigation.

    Args:
        data: the page.
        name: of the file, for errors.
        encoding: if it is not UTF-8 and declares none.

    Raises:
        InvalidInput: it cannot be decoded.
        MissingDependency: lxml is not installed.
    """
    page = parsed(decoded(data, name, encoding), name, _LEFT_OUT)
    if page.root is None:
        return page.title, ""
    writer = _Writer(page.title)
    writer.read(page.root)
    text = "".join(writer.written)
    if text and page.title and not writer.has_heading:
        text = f"# {page.title}\n\n{text}"
    return page.title, text


class _Writer:
    """Writes Markdown.

    Attributes:
        written: in pieces.
        has_heading: whether there is one.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self.written: list[str] = []
        self.has_heading = False
        self._line: list[tuple[str, bool]] = []  # its pieces, and whether each is in a link
        self._links = 0  # that are open
        self._level = 0  # of the heading that is open
        self._lists: list[int | None] = []  # that are open: the next number of a numbered one
        self._items: list[str] = []  # that are open: how their lines are indented
        self._marker = ""  # of an item that nothing is written of yet
        self._gap = "\n\n"  # before what is written next

    def read(self, root: Any) -> None:
        """Writes what an element says."""
        walk = load_lxml()[0].iterwalk(root, events=("start", "end"))
        for event, element in walk:
            tag = element.tag
            if tag not in INLINE:
                self._end_line(is_term=tag == "dt" and event == "end")
            if event == "end":
                self._leave(element)
                self._add("" if element is root else element.tail)
            elif tag == "pre":
                self._code(element)
                walk.skip_subtree()
            elif tag == "tr" and not _has_blocks(element):
                self._row(element)
                walk.skip_subtree()
            else:
                self._enter(element)
                self._add(_BREAK if tag == "br" else element.text)

    def _add(self, text: str | None) -> None:
        if text:
            self._line.append((text, self._links > 0))

    def _enter(self, element: Any) -> None:
        tag = element.tag
        self._level = HEADINGS.get(tag, self._level)
        if _is_pointer(element):
            self._links += 1
        elif tag in ("ol", "ul"):
            start = element.get("start", "")
            self._lists.append((int(start) if start.isdecimal() else 1) if tag == "ol" else None)
        elif tag == "dd":
            self._marker = ": "
        elif tag == "li":
            self._marker = "- "
            if self._lists and (number := self._lists[-1]) is not None:
                self._marker = f"{number}. "
                self._lists[-1] = number + 1
            self._items.append(" " * len(self._marker))

    def _leave(self, element: Any) -> None:
        tag = element.tag
        if _is_pointer(element):
            self._links -= 1
        elif tag in ("ol", "ul"):
            self._lists.pop()
        elif tag == "li":
            self._items.pop()
        elif tag == "dt":
            self._gap = "\n"
        elif tag == "table":
            self._gap = "\n\n"
        elif tag in HEADINGS:
            self._level = 0
        if tag in ("dd", "li"):
            self._marker = ""

    def _end_line(self, *, is_term: bool) -> None:
        pieces = self._line
        self._line = []
        text = "\n".join(filter(None, map(one_line, _visible("".join(piece for piece, _ in pieces)).split(_BREAK))))
        if self._level and (text := without_permalink(one_line(text))):
            is_own = self._title.startswith(text) or self._title.endswith(text)
            if is_own and not self.has_heading and sum(map(len, self.written)) <= _BANNER:
                self.written.clear()
            self.has_heading, self._marker = True, ""
            self._put(f"{'#' * self._level} {text}")
        elif text and (is_term or not _only_points(pieces)):
            self._write(text)

    def _code(self, element: Any) -> None:
        for line_break in element.iter("br"):
            line_break.tail = f"\n{line_break.tail or ''}"
        if code := _visible(element.text_content()).strip("\r\n").rstrip():
            fence = "`" * max(_FENCE, 1 + max(map(len, re.findall("`+", code)), default=0))
            self._write(f"{fence}\n{code}\n{fence}")

    def _row(self, element: Any) -> None:
        cells = [_cell(cell) for cell in element.iterchildren()]
        pointers = [_cell(link) for link in element.iter("a") if _is_pointer(link)]
        told = [cell for cell in cells if cell]
        if told and not (pointers and sum(map(_alphanumeric, cells)) == sum(map(_alphanumeric, pointers))):
            self._write(" | ".join(cells) if len(told) > 1 else told[0])
            self._gap = "\n"

    def _write(self, text: str) -> None:
        indent = "".join(self._items[:_DEEPEST])
        first = indent
        if self._marker:
            self._gap = "\n"
            own = self._items[-1] if self._marker != ": " and len(self._items) <= _DEEPEST else ""
            first = indent.removesuffix(own) + self._marker
            self._marker = ""
        self._put(first + text.replace("\n", f"\n{indent}"))

    def _put(self, text: str) -> None:
        self.written.append(self._gap + text if self.written else text)
        self._gap = "\n\n"


def _has_blocks(row: Any) -> bool:
    """Whether a row is not one line of a table but a part of a page's layout, or holds code or a list."""
    return any(True for _ in row.iterdescendants(*_BLOCKS)) or any(
        sum(1 for _ in cell.iterdescendants(*_PARAGRAPHS)) > 1 for cell in row.iterchildren()
    )


def _is_pointer(element: Any) -> bool:
    """Whether it links to another place in the same documentation."""
    return element.tag == "a" and "href" in element.attrib and "://" not in element.get("href")


def _only_points(pieces: list[tuple[str, bool]]) -> bool:
    """Whether a line is navigation: nothing in it but punctuation and what other places are called."""
    links = [piece for piece, is_linked in pieces if is_linked]
    return (
        bool(links)
        and max(map(len, links)) <= _CALLED
        and not any(_alphanumeric(text) for text, linked in pieces if not linked)
    )


def _alphanumeric(text: str) -> int:
    return sum(map(str.isalnum, text))


def _cell(element: Any) -> str:
    for inner in element.iterdescendants():
        if inner.tag == "br" or inner.tag not in INLINE:
            inner.text, inner.tail = f"\n{inner.text or ''}", f"\n{inner.tail or ''}"
    return one_line(_visible(element.text_content()))


def _visible(text: str) -> str:
    return _INVISIBLE.sub("", text)
