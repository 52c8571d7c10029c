"""Texts of uploaded files, in passages."""

from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any
from zipfile import ZipFile

from docx import Document as Docx
from docx.table import Table
from pypdf import PdfReader
from semantic_text_splitter import TextSplitter

TYPES = ["txt", "md", "docx", "pdf"]
MOST_FILES, MOST_LETTERS = 20, 200_000  # that are added at once
_MOST_BYTES, _MOST_PAGES = 50_000_000, 500  # of a Word file, unzipped, and of a PDF, which is slow to read
_LETTERS = 300  # of a passage at most


def text_of(name: str, file: IO[bytes]) -> str:
    """A file's text, or a `ValueError` that names it."""
    content, kind = file.read(), name.rpartition(".")[2].lower()
    try:
        if kind == "docx":
            if sum(part.file_size for part in ZipFile(BytesIO(content)).infolist()) > _MOST_BYTES:
                raise ValueError(f"more than {_MOST_BYTES:,} bytes unzipped")
            return "\n".join(_lines(Docx(BytesIO(content))))
        if kind == "pdf":
            if len(pages := PdfReader(BytesIO(content)).pages) > _MOST_PAGES:
                raise ValueError(f"more than {_MOST_PAGES} pages")
            return "\n".join(page.extract_text() for page in pages)
        return content.decode("utf-8-sig")
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise ValueError(f"{name}: {error}") from error


def _lines(part: Any) -> Iterator[str]:
    """Paragraphs, and the rows of tables, of a document or of a cell."""
    for block in part.iter_inner_content():
        if isinstance(block, Table):
            for row in block.rows:
                yield " | ".join(" ".join(_lines(cell)) for cell in dict.fromkeys(row.cells))  # a wide one is repeated
        else:
            yield block.text


def passages_of(text: str) -> list[str]:
    """A text in passages that end where sentences or paragraphs do; `?` is what a PDF has half a character of."""
    return TextSplitter(_LETTERS).chunks(text.encode("utf-8", "replace").decode())
