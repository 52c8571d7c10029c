"""Stateless tokenizing: text to token ids, cut to a maximum length by us, never by the shared tokenizer.

Hugging Face's fast tokenizers keep truncation and padding as state, and silently return wrong lengths when threads
change it. Ours never has any, so one instance serves all threads.
"""

import unicodedata
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m3core.errors import InvalidModel, TruncationWarning, UnknownTokensWarning
from m3core.packing import IntArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FILES = ("tokenizer.json", "vocab.txt", "sentencepiece.bpe.model")
_SPECIAL_NAMES = ("<s>", "<pad>", "</s>", "<unk>", "[CLS]", "[PAD]", "[SEP]", "[UNK]")
_UNKNOWN_NAMES = ("<unk>", "[UNK]")
_MASK_NAMES = ("<mask>", "[MASK]")
_UNKNOWN_SHARE = 0.05
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
UNCUT = 2**30
"""More tokens than any text has: a maximum length that cuts none."""


@dataclass(frozen=True)
class Token:
    """One token of a text.

    Attributes:
        token: the vocabulary's piece, `▁` for a word's start included; `<unk>` or `[UNK]` outside the vocabulary.
        id: its id.
        start: where it begins in the text, in characters.
        end: where it ends. A bare `▁`, the mark of a word's start, is empty: `start == end`.
    """

    token: str
    id: int
    start: int
    end: int


@dataclass(frozen=True)
class TokenWeight(Token):
    """A token with its lexical weight.

    Attributes:
        weight: how much it counts; 0 for a token that lexical matching ignores.
    """

    weight: float


@dataclass(frozen=True)
class TextCounts:
    """What became of a call's texts. Add them up over the parts of a call.

    Attributes:
        texts: how many there were.
        tokens: their tokens together before cutting, without special tokens.
        unknown: how many of these are outside the vocabulary.
        truncated: how many texts were cut.
        longest: the longest text before cutting, in tokens with special ones, inserted CLS tokens too.
    """

    texts: int = 0
    tokens: int = 0
    unknown: int = 0
    truncated: int = 0
    longest: int = 0

    def __add__(self, other: "TextCounts") -> "TextCounts":
        """The counts of both."""
        return TextCounts(
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.unknown + other.unknown,
            self.truncated + other.truncated,
            max(self.longest, other.longest),
        )

    def warn(self, max_length: int, languages: Sequence[str], *, stacklevel: int) -> None:
        """Warns of texts that were cut, and of many unknown tokens; once each for all of them."""
        if self.truncated:
            warnings.warn(
                f"{self.truncated} of {self.texts} texts were longer than {max_length} tokens (the longest "
                f"{self.longest}) and were cut; split them, or raise max_length if the model allows it",
                TruncationWarning,
                stacklevel=stacklevel,
            )
        if self.unknown > _UNKNOWN_SHARE * self.tokens:
            known = f", which knows {' and '.join(languages)}" if languages else ""
            warnings.warn(
                f"{self.unknown / self.tokens:.0%} of the tokens are unknown to this model{known}; what they stand "
                "for is lost. Use a model for the texts' language, such as BAAI/bge-m3",
                UnknownTokensWarning,
                stacklevel=stacklevel,
            )


@dataclass(frozen=True, eq=False)
class TokenizedTexts:
    """The token ids of each text, special tokens included, at most the maximum length long; and the counts.

    With MCLS (BGE-M3, arXiv 2402.03216, appendix B.2) a CLS token comes before every n of a text's own tokens, not only
    before the first: `<s> a b <s> c d <s> e </s>` for n = 2. So there is one at each multiple of n + 1 but the last
    place, which is that of `</s>`. None comes behind the last token, and an empty text has one.
    """

    token_ids: list[IntArray]
    counts: TextCounts


class M3Tokenizer:
    """The tokenizer of a model directory.

    Attributes:
        special_ids: ids that never count lexically: beginning, end, padding and unknown.
        mask_id: that of the token which stands for one to guess, or `None`.
    """

    def __init__(self, tokenizer: "Tokenizer", mcls: int | None = None) -> None:
        """Takes over `tokenizer` and turns off its truncation and padding.

        Args:
            tokenizer: puts one special token before a text and one behind it.
            mcls: before how many tokens of a text to put a CLS token; `None` is one before all of them.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._block = mcls or UNCUT
        frame: list[int] = tokenizer.encode("").ids
        if len(frame) != 2:
            raise InvalidModel(
                "the tokenizer does not put one special token before a text and one behind it, as XLM-R's and BERT's "
                f"do: an empty text becomes {frame}"
            )
        self._first, self._last = frame
        named = (tokenizer.token_to_id(name) for name in _SPECIAL_NAMES)
        self.special_ids: frozenset[int] = frozenset({*frame, *(i for i in named if i is not None)})
        masks = (tokenizer.token_to_id(name) for name in _MASK_NAMES)
        self.mask_id: int | None = next((i for i in masks if i is not None), None)
        self._unknown_ids = [i for n in _UNKNOWN_NAMES if (i := tokenizer.token_to_id(n)) is not None]
        normalizer = tokenizer.normalizer
        self._removed = {c for c in map(chr, _CONTROLS) if normalizer and not normalizer.normalize_str(c)}

    @classmethod
    def from_directory(cls, path: Path, mcls: int | None = None) -> "M3Tokenizer":
        """Reads `tokenizer.json`, or else makes a fast tokenizer from the vocabulary file that there is.

        Args:
            path: of the model.
            mcls: as above.

        Raises:
            InvalidModel: there is none, or it is damaged.
        """
        from tokenizers import Tokenizer

        if not any((path / name).is_file() for name in _FILES):
            raise InvalidModel(f"{path} has no tokenizer: none of {', '.join(_FILES)}; fetch or save it again")
        try:
            if (path / _FILES[0]).is_file():
                return cls(Tokenizer.from_file(str(path / _FILES[0])), mcls)
            from transformers import AutoTokenizer

            return cls(AutoTokenizer.from_pretrained(path).backend_tokenizer, mcls)
        except InvalidModel:
            raise
        except Exception as error:  # tokenizers and transformers raise bare Exceptions for damaged files
            raise InvalidModel(f"the tokenizer in {path} cannot be loaded: {error}") from error

    @property
    def size(self) -> int:
        """How many tokens it has."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def definition(self) -> str:
        """What a `tokenizer.json` holds, for other programs."""
        return str(self._tokenizer.to_str())

    def check_fits(self, vocabulary: int) -> None:
        """Raises `InvalidModel` if there are more token ids than the model has embeddings for."""
        size = self.size
        if size > vocabulary:
            raise InvalidModel(
                f"the tokenizer has {size} tokens and the model {vocabulary} embeddings: these are two models' files"
            )

    def tokenize(self, texts: Sequence[str], max_length: int) -> TokenizedTexts:
        """Token ids with special tokens, cut to `max_length` including them. For texts that `check_texts` passed."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return self._framed((encoding.ids for encoding in encodings), max_length)

    def located(self, texts: Sequence[str], max_length: int) -> tuple[TokenizedTexts, list[IntArray]]:
        """What `tokenize` gives, and where in its text each token of its own begins, in characters.

        A bare `▁` begins where the word does, or at the space before it.
        """
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        tokenized = self._framed((encoding.ids for encoding in encodings), max_length)
        room = self._room(max_length)
        return tokenized, [
            np.array([start for start, _ in encoding.offsets[:room]], dtype=np.int64) for encoding in encodings
        ]

    def tokens(self, text: str, max_length: int) -> tuple[list[Token], TokenizedTexts]:
        """The tokens that are kept of a text, special ones left out, with the characters they stand for.

        Returns:
            The tokens, and what `tokenize` gives for the text.
        """
        ids, spans = self._placed(text)
        letters = [at for at, character in enumerate(text) if not (at and unicodedata.combining(character))]
        letters.append(len(text))
        tokens = []
        for i, (start, end) in zip(ids[: self._room(max_length)], spans, strict=False):
            piece = str(self._tokenizer.id_to_token(i))
            start = letters[bisect_right(letters, start) - 1]  # with their accents
            end = letters[bisect_left(letters, end)]
            tokens.append(Token(piece, i, start, start if piece == "▁" else end))
        return tokens, self._framed([ids], max_length)

    def _placed(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text's tokens, and where each stands.

        Where a normalizer removes characters from a word's start, `tokenizers` places all tokens of the word that much
        too early. So they are looked for in the text without these, if that has the same tokens.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if self._removed.isdisjoint(text):
            return encoding.ids, encoding.offsets
        kept = [at for at, character in enumerate(text) if character not in self._removed]
        visible = self._tokenizer.encode("".join(text[at] for at in kept), add_special_tokens=False)
        if visible.ids != encoding.ids:
            return encoding.ids, encoding.offsets
        return encoding.ids, [(kept[start], kept[end - 1] + 1) for start, end in visible.offsets]

    def _framed(self, contents: Iterable[list[int]], max_length: int) -> TokenizedTexts:
        room = self._room(max_length)
        token_ids: list[IntArray] = []
        tokens = unknown = truncated = longest = 0
        for content in contents:
            length = len(content)
            tokens += length
            unknown += sum(map(content.count, self._unknown_ids))
            longest = max(longest, length + 2 + max(0, length - 1) // self._block)
            truncated += length > room
            token_ids.append(self._frame(content[:room]))
        return TokenizedTexts(token_ids, TextCounts(len(token_ids), tokens, unknown, truncated, longest))

    def _frame(self, ids: list[int]) -> IntArray:
        if len(ids) > self._block:
            return np.array([self._first, *self._with_cls(ids), self._last], dtype=np.int64)
        return np.array([self._first, *ids, self._last], dtype=np.int64)

    def _with_cls(self, ids: list[int]) -> IntArray:
        return np.insert(np.array(ids), np.arange(self._block, len(ids), self._block), self._first)

    def _room(self, max_length: int) -> int:
        """How many tokens of its own a text may have: `</s>` takes a place, and CLS one before each block."""
        blocks, rest = divmod(max_length - 1, self._block + 1)
        return blocks * self._block + max(0, rest - 1)
