"""Which tokens of a text a masked language model is to guess: always whole words, in any script and vocabulary.

Words are told by a text's characters, not by pieces' names, so that it is the same for XLM-R's `▁` and BERT's `##`, and
for texts of several languages. FlagEmbedding's pre-training knows `##` alone: with XLM-R it masks single tokens.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3core.errors import MissingDependency
from m3core.packing import IntArray, Pack, cut

Mask = npt.NDArray[np.bool_]

ENCODER_MASKED, DECODER_MASKED = 0.3, 0.5

_MASKS = 256  # of a text at most, for the decoder's rows to choose from
_MASKED, _REPLACED = 0.8, 0.1  # of the tokens to guess; the rest stays as it is
_HAN, _UNSPACED, _WORD, _SPACE, _OTHER = "hcwso"
_UNSPACED_RANGES = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x0F00, 0x1000),  # Tibetan
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x3040, 0x3100),  # kana
)
_HAN_RANGES = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x40000), (0x3005, 0x3008))


class _Classes(dict[int, str]):
    """The class of each character, for `str.translate`; made when it is first met."""

    def __missing__(self, code: int) -> str:
        if any(first <= code < end for first, end in _HAN_RANGES):
            kind = _HAN
        elif any(first <= code < end for first, end in _UNSPACED_RANGES):
            kind = _UNSPACED
        elif chr(code).isspace():
            kind = _SPACE
        else:
            kind = _WORD if unicodedata.category(chr(code))[0] in "LMN" else _OTHER
        self[code] = kind
        return kind


_CLASSES = _Classes()


def word_ids(text: str, starts: IntArray) -> IntArray:
    """The word that each token of a text belongs to, counted from 0.

    A word is a run of letters, digits and their marks, or of other characters that are no spaces; of Chinese
    characters, what jieba takes for one; and in scripts that are written without spaces otherwise, such as Thai and
    Japanese kana, a token. Words that share a token are one.

    Args:
        text: as it was tokenized.
        starts: `(tokens,)` where each of its tokens begins, in characters; that of an empty `▁` may be where the next
            token begins too, or the space before it.

    Raises:
        MissingDependency: the text has Chinese characters, and jieba is not installed.
    """
    if not len(starts):
        return np.zeros(0, dtype=np.int64)
    kinds = np.frombuffer(text.translate(_CLASSES).encode("ascii"), dtype=np.uint8)
    begins = np.ones(len(kinds), dtype=bool)
    begins[1:] = (kinds[1:] != kinds[:-1]) | (kinds[1:] == ord(_UNSPACED))
    chinese = kinds == ord(_HAN)
    if chinese.any():
        words = np.zeros(len(kinds), dtype=bool)
        words[_jieba_starts(text)] = True
        begins |= words & chinese
    behind = np.where(kinds == ord(_SPACE), len(kinds), np.arange(len(kinds)))  # spaces belong to what follows
    places = np.minimum.accumulate(behind[::-1])[::-1][starts]
    new = np.append(begins, True)[places]
    new[1:] &= places[1:] != places[:-1]  # a character in several tokens, or a `▁` before it
    new[0] = True
    return np.cumsum(new) - 1


def _jieba_starts(text: str) -> list[int]:
    try:
        import jieba
    except ImportError as error:
        raise MissingDependency("whole Chinese words need jieba: pip install 'm3-retrieval[train]'") from error
    jieba.setLogLevel("WARNING")
    return [start for _, start, _ in jieba.tokenize(text)]


def draw_masks(words: IntArray, masks: int, probability: float, rng: np.random.Generator) -> Mask:
    """Masks over whole words, each drawn by itself: a word is masked with a probability, and at least one always is.

    So it is in the RetroMAE paper and in transformers 5. With transformers 4, which FlagEmbedding's code needs, a mask
    has a fixed share of a text's tokens, but 512 at most, which is less than that share of long texts.

    Args:
        words: `(tokens,)` the word of each token; -1 for those that are never masked.
        masks: how many.
        probability: that a word is masked.
        rng: where chance comes from.

    Returns:
        `(masks, tokens)`, true where a token is masked.
    """
    count = int(words.max()) + 1
    if not count:
        return np.zeros((masks, len(words)), dtype=bool)
    drawn = np.zeros((masks, count + 1), dtype=bool)  # the last column is that of -1
    drawn[:, :count] = rng.random((masks, count), dtype=np.float32) < probability
    empty = np.flatnonzero(~drawn.any(1))
    drawn[empty, rng.integers(count, size=len(empty))] = True
    return drawn[:, words]


def corrupt(token_ids: IntArray, masked: Mask, mask_id: int, ordinary: IntArray, rng: np.random.Generator) -> IntArray:
    """What the encoder sees in place of the tokens to guess, as in BERT: of them, 80 % become the mask token, 10 % any.

    The other 10 % stay as they are. transformers' `DataCollatorForWholeWordMask` does the same, token by token; but it
    replaces by special tokens too.

    Args:
        token_ids: `(tokens,)`.
        masked: `(tokens,)` which to guess.
        mask_id: of the mask token.
        ordinary: the ids to replace by.
        rng: where chance comes from.

    Returns:
        `(tokens,)`, a copy.
    """
    chance = rng.random(len(token_ids))
    seen = np.where(masked & (chance < _MASKED), mask_id, token_ids)
    replaced = np.flatnonzero(masked & (chance >= _MASKED) & (chance < _MASKED + _REPLACED))
    seen[replaced] = rng.choice(ordinary, len(replaced))
    return seen


@dataclass(frozen=True, eq=False)
class MaskedPack:
    """Texts with what is masked of them.

    Attributes:
        pack: the texts as they are.
        seen: `(tokens,)` the ids that the encoder sees.
        masked: `(tokens,)` which of them it is to guess.
        labels: `(tokens,)` which ones the decoder is to guess: all but special tokens.
        hidden: for each text the decoder's masks, `(masks, tokens)`, true where a token is hidden.
        chosen: `(tokens,)` which of its text's masks a token is guessed with; it is hidden itself, besides.
    """

    pack: Pack
    seen: IntArray
    masked: Mask
    labels: Mask
    hidden: tuple[Mask, ...]
    chosen: IntArray

    @property
    def guessed(self) -> dict[str, int]:
        """How many tokens encoder and decoder are to guess."""
        return {"encoder": int(self.masked.sum()), "decoder": int(self.labels.sum())}

    def parts(self, tokens: int) -> "Iterator[MaskedPack]":
        """The same texts in packs of at most so many tokens; a longer text has one of its own."""
        ends = self.pack.starts + self.pack.lengths
        first = 0
        while first < len(ends):
            start = self.pack.starts[first]
            last = max(first + 1, int(np.searchsorted(ends, start + tokens, side="right")))
            own = slice(start, ends[last - 1])
            yield MaskedPack(
                Pack(self.pack.token_ids[own], self.pack.lengths[first:last]),
                self.seen[own],
                self.masked[own],
                self.labels[own],
                self.hidden[first:last],
                self.chosen[own],
            )
            first = last


@dataclass(frozen=True, eq=False)
class Masker:
    """Masks texts.

    Attributes:
        special_ids: ids that are never masked nor guessed.
        mask_id: stands for a masked token.
        ordinary: ids that may stand for one too; see `corrupt`.
        encoder: the probability that the encoder does not see a word.
        decoder: the probability that a row of the decoder does not.
    """

    special_ids: frozenset[int]
    mask_id: int
    ordinary: IntArray
    encoder: float = ENCODER_MASKED
    decoder: float = DECODER_MASKED

    def __call__(self, texts: Sequence[IntArray], words: Sequence[IntArray], rng: np.random.Generator) -> MaskedPack:
        """Masks of some texts.

        Args:
            texts: their token ids, the first and the last being special ones.
            words: the word of each of their own tokens, two fewer; see `word_ids`.
            rng: where chance comes from.
        """
        pack = Pack.of(texts)
        labels = ~np.isin(pack.token_ids, list(self.special_ids))
        maskable = [
            np.where(own, np.concatenate([[-1], word, [-1]]), -1)
            for own, word in zip(cut(labels, pack.lengths), words, strict=True)
        ]
        masked = np.concatenate([draw_masks(word, 1, self.encoder, rng)[0] for word in maskable])
        hidden = tuple(draw_masks(word, min(_MASKS, len(word)), self.decoder, rng) for word in maskable)
        chosen = rng.integers(0, np.repeat([len(masks) for masks in hidden], pack.lengths))
        seen = corrupt(pack.token_ids, masked, self.mask_id, self.ordinary, rng)
        return MaskedPack(pack, seen, masked, labels, hidden, chosen)
