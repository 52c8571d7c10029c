"""The texts of the encoder benchmark: Chinese and English passages of lognormal lengths, queries, long documents."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[3]
DEBATE = ROOT / "examples" / "data" / "debate"
MEAN_TOKENS, SHORTEST, LONGEST = 180, 10, 1000
SEED = 0


@dataclass(frozen=True)
class Lengths:
    """How long texts are, in tokens with the two special ones.

    Attributes:
        total: all tokens.
        padded: all tokens if every text were padded to the longest.
    """

    texts: int
    total: int
    mean: float
    shortest: int
    median: float
    p90: float
    longest: int
    padded: int

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Tokenizer) -> "Lengths":
        """The distribution of the lengths of `texts`."""
        counts = [len(tokenizer.encode(text).ids) for text in texts]
        median, p90 = np.percentile(counts, [50, 90])
        mean, longest = float(np.mean(counts)), max(counts)
        return cls(
            len(counts), sum(counts), mean, min(counts), float(median), float(p90), longest, longest * len(counts)
        )

    def __str__(self) -> str:
        return (
            f"{self.texts} texts, {self.total} tokens: mean {self.mean:.0f}, shortest {self.shortest}, "
            f"median {self.median:.0f}, p90 {self.p90:.0f}, longest {self.longest} "
            f"({self.padded} tokens if padded to the longest)"
        )

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def make_passages(count: int, spread: float, tokenizer: Tokenizer, longest: int = LONGEST) -> list[str]:
    """`count` passages, Chinese and English by turns, the same at every call.

    Args:
        count: how many.
        spread: the standard deviation of the logarithm of the lengths.
        tokenizer: what lengths are counted with; without truncation and padding.
        longest: lengths in tokens are cut at this.
    """
    rng = np.random.default_rng(SEED)
    drawn = rng.lognormal(math.log(MEAN_TOKENS) - spread**2 / 2, spread, count)
    return make_texts(np.clip(drawn, SHORTEST, min(longest, LONGEST)).astype(int).tolist(), tokenizer)


def make_texts(lengths: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """A text of each of these lengths in tokens, two of which are special; Chinese and English by turns."""
    chinese = [str(row["text"]) for row in _rows("corpus.jsonl")]
    english = [str(row["text"]) for row in _rows("queries.jsonl") if row["metadata"]["kind"] == "english"]
    shuffle = random.Random(SEED)
    return [
        _text(length, *((chinese, "") if turn % 2 == 0 else (english, " ")), shuffle, tokenizer)
        for turn, length in enumerate(lengths)
    ]


def make_queries(count: int) -> list[str]:
    """`count` short queries, Chinese and English, the same at every call."""
    queries = [str(row["text"]) for row in _rows("queries.jsonl")]
    random.Random(SEED).shuffle(queries)
    return [queries[i % len(queries)] for i in range(count)]


def all_texts() -> list[str]:
    """Everything that texts are made of."""
    return [str(row["text"]) for name in ("corpus.jsonl", "queries.jsonl") for row in _rows(name)]


def _text(length: int, pool: list[str], joint: str, shuffle: random.Random, tokenizer: Tokenizer) -> str:
    """Sentences of `pool` up to `length` tokens, two of which are special."""
    text, ends = "", [0]
    while len(ends) < length - 2:
        text = joint.join([text, shuffle.choice(pool)]) if text else shuffle.choice(pool)
        ends = [end for _, end in tokenizer.encode(text, add_special_tokens=False).offsets]
    return text[: ends[length - 3]]


def _rows(name: str) -> list[dict[str, dict[str, str]]]:
    return [json.loads(line) for line in (DEBATE / name).read_text(encoding="utf-8").splitlines()]
