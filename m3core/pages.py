"""HTML pages: decoded, parsed, and rid of their navigation. What is made of the rest is up to who reads them."""

import codecs
import re
from collections.abc import Collection
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from m3core.errors import InvalidInput, MissingDependency
from m3core.wording import one_line

HEADINGS = {f"h{level}": level for level in range(1, 7)}
"""Headings with their levels."""

INLINE = {
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "br", "cite", "code", "data", "del", "dfn", "em", "font", "i",
    "ins", "kbd", "label", "mark", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike", "strong", "sub",
    "sup", "time", "tt", "u", "var", "wbr",
}  # fmt: skip
"""Elements that do not end a line."""

_NO_TEXT = {
    "audio", "button", "canvas", "embed", "footer", "head", "iframe", "img", "input", "map", "math", "nav", "noscript",
    "object", "script", "select", "style", "svg", "template", "textarea", "video",
}  # fmt: skip
_ROLES = {"banner", "complementary", "contentinfo", "menu", "navigation", "search", "toolbar"}
_NAVIGATION = re.compile(
    r"nav|nav-?(bar|header|footer|igation).*|toc|toc-?tree.*|table-of-contents|list-of-.*|(sphinx)?sidebar.*"
    r"|breadcrumbs?|menu|footer|related|headerlink|cookie.*"
)
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w.:-]+)|encoding\s*=\s*[\"']([\w.:-]+)", re.I)
_MEANT = {
    "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "euc-kr": "cp949", "shift_jis": "cp932",
}  # fmt: skip  # what the declared one is a part of, and browsers read
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PERMALINK = re.compile(r"[\s¶#§🔗]+$")


@dataclass(frozen=True)
class Page:
    """A parsed page.

    Attributes:
        title: that it calls itself; may be empty.
        root: the lxml element with what it is about; `None` where there is nothing.
    """

    title: str
    root: Any


def decoded(data: bytes, name: str, encoding: str | None = None) -> str:
    """The text of a page that is in UTF-8, whatever it declares, or in the encoding that it declares.

    Args:
        data: the page.
        name: of the file, for errors.
        encoding: of a page that is neither.

    Raises:
        InvalidInput: it is in none of these.
    """
    stated = _CHARSET.search(data[:4096])
    declared = (stated[1] or stated[2]).decode("ascii").lower() if stated else None
    reason = ""
    for guess in ("utf-16",) if data.startswith(_UTF_16) else ("utf-8-sig", declared, encoding):
        if guess is not None:
            try:
                return data.decode(_MEANT.get(guess, guess))
            except (LookupError, UnicodeError) as error:
                reason = reason or str(error)
    other = "convert it, or leave it out" if encoding is None else f"nor is it {encoding}; say its encoding"
    raise InvalidInput(f"{name} is neither UTF-8 ({reason}) nor in an encoding that it declares: {other}")


def parsed(text: str, name: str, besides: Collection[str] = ()) -> Page:
    """Parses a page, however broken it is, and leaves out navigation, forms' controls, pictures and scripts.

    Where it has a `<main>` or an `<article>`, that is what it is about.

    Args:
        text: of the page.
        name: of the file, for errors.
        besides: what else to leave out: names of elements, and of classes with a dot before them.

    Raises:
        InvalidInput: its elements are nested so deeply that the parser stops.
        MissingDependency: lxml is not installed.
    """
    etree, html = load_lxml()
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = html.document_fromstring(text.encode(), parser=parser)
    except etree.ParserError:  # nothing in it
        return Page("", None)
    for error in parser.error_log.filter_from_fatals():  # what comes after it was not read
        raise InvalidInput(f"{name} cannot be parsed ({error.message}): mend it, or leave it out")
    title = one_line(root.findtext(".//title") or "")
    for content in (root.xpath("//main | //*[@role='main']"), root.xpath("//article"), root.xpath("//body")):
        if len(content) == 1:
            root = content[0]
            break
    for element in root.xpath(".//*"):
        if _is_left_out(element, besides) and element.getparent() is not None:
            element.drop_tree()
    return Page(title, root)


def without_permalink(heading: str) -> str:
    """A heading less the sign at its end that links to it."""
    return _PERMALINK.sub("", heading)


def load_lxml() -> tuple[ModuleType, ModuleType]:
    """Its modules `etree` and `html`.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        from lxml import etree, html
    except ImportError as error:
        raise MissingDependency("reading HTML needs lxml: pip install 'm3-retrieval[html]'") from error
    return etree, html


def _is_left_out(element: Any, besides: Collection[str]) -> bool:
    return (
        element.tag in _NO_TEXT
        or element.tag in besides
        or (element.tag == "header" and element.find(".//h1") is None)
        or element.get("role") in _ROLES
        or "hidden" in element.attrib
        or any(
            _NAVIGATION.fullmatch(name) or f".{name}" in besides
            for name in (element.get("class") or "").lower().split()
        )
    )
