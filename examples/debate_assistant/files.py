"""Texts of uploaded files, in passages."""

from io import BytesIO
from typing import IO

from docx import Document as Docx
from pypdf import PdfReader
from semantic_text_splitter import TextSplitter

TYPES = ["txt", "md", "docx", "pdf"]
_LETTERS = 300  # of a passage at most


def text_of(name: str, file: IO[bytes]) -> str:
    """A file's text.

    Raises:
        ValueError: it cannot be read.
    """
    content = file.read()
    kind = name.rpartition(".")[2].lower()
    try:
        if kind == "docx":
            return "\n".join(paragraph.text for paragraph in Docx(BytesIO(content)).paragraphs)
        if kind == "pdf":
            return "\n".join(page.extract_text() for page in PdfReader(BytesIO(content)).pages)
        return content.decode("utf-8-sig")
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise ValueError(f"{name}: {error}") from error


def passages_of(text: str) -> list[str]:
    """A text in passages that end where sentences or paragraphs do."""
    return TextSplitter(_LETTERS).chunks(text)
