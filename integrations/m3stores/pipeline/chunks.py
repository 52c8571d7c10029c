"""Passages of documents: split where sentences, paragraphs and sections end, in any language."""

from typing import Any

from m3core import InvalidInput, M3Encoder, MissingDependency, Record
from m3stores.pipeline.documents import DOCUMENT, PASSAGE, Document, passage_id

_USUAL, _OVERLAP = 512, 1 / 8


class Chunker:
    """Splits documents by the tokens of a model's own tokenizer.

    Texts end where the Unicode standard ends sentences, words and characters, whichever fits, so also at `。` and `！`;
    Markdown at headings and paragraphs first. The splitter is the package semantic-text-splitter.

    Attributes:
        tokens: of a passage at most, special ones included.
        overlap: of them at most that the passage before had too.
    """

    def __init__(
        self, encoder: M3Encoder, tokens: int | None = None, overlap: int | None = None, *, rows: int | None = None
    ) -> None:
        """Makes the splitters.

        Args:
            encoder: whose tokenizer counts.
            tokens: `None` is 512, or what the model reads if that is less; a record of a table, which is a passage
                already, is then split only where the model cannot read it whole.
            overlap: `None` is an eighth of `tokens`.
            rows: of a multi-vector at most, if there are to be some.

        Raises:
            InvalidInput: fewer than 8 or more than the model reads, or an overlap that is no less.
            MissingDependency: semantic-text-splitter is not installed.
        """
        most = encoder.max_length if rows is None else min(encoder.max_length, rows)
        self.tokens = min(_USUAL, most) if tokens is None else tokens
        if not 8 <= self.tokens <= most:
            raise InvalidInput(
                f"a passage has from 8 to {most} tokens, as many as the model reads and a multi-vector may have, "
                f"not {tokens!r}"
            )
        self.overlap = int(self.tokens * _OVERLAP) if overlap is None else overlap
        if not 0 <= self.overlap < self.tokens - 2:
            raise InvalidInput(f"the overlap is less than the {self.tokens} tokens of a passage, not {overlap!r}")
        self._longest = most if tokens is None else tokens
        self._definition = encoder.tokenizer_definition()
        self._load()

    def __getstate__(self) -> dict[str, Any]:
        """What another process makes the same from."""
        return {name: value for name, value in vars(self).items() if name not in ("_tokenizer", "_splitters")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._load()

    def _load(self) -> None:
        from tokenizers import Tokenizer

        try:
            from semantic_text_splitter import MarkdownSplitter, TextSplitter
        except ImportError as error:
            raise MissingDependency(
                "splitting texts needs semantic-text-splitter: pip install 'm3-retrieval[qdrant]' or [chroma]"
            ) from error
        self._tokenizer = Tokenizer.from_str(self._definition)

        def splitter(kind: Any, room: int) -> Any:
            return kind.from_huggingface_tokenizer(self._tokenizer, room - 2, min(self.overlap, room - 3))

        self._splitters = {
            "record": splitter(TextSplitter, self._longest),
            "text": splitter(TextSplitter, self.tokens),
            "markdown": splitter(MarkdownSplitter, self.tokens),
        }

    def __call__(self, document: Document) -> list[Record]:
        """The passages of a document; none of an empty one.

        The first has the document's id, the others `ID#passage1` and so on. Where there are several, or a text might
        have, `m3_document` and `m3_passage` in the metadata say of which document it is, and which one from 0 on.
        """
        if not document.text.strip():
            return []
        whole = document.kind == "record"
        if whole and self._fits(document.text):
            return [Record(document.id, document.text, document.metadata)]
        texts = self._splitters[document.kind].chunks(document.text)
        if document.kind == "markdown":  # a long block of code leaves its last fence behind
            texts = [text for text in texts if any(map(str.isalnum, text))]
        return [
            Record(passage_id(document.id, n), text, {**document.metadata, DOCUMENT: document.id, PASSAGE: n})
            for n, text in enumerate(texts)
        ]

    def _fits(self, text: str) -> bool:
        """Whether a passage can have so many tokens. A splitter would count them several times."""
        return len(self._tokenizer.encode(text, add_special_tokens=False)) <= self._longest - 2


def document_of(passage: Record) -> str:
    """The id of a passage's document."""
    return str(passage.metadata.get(DOCUMENT, passage.id))
