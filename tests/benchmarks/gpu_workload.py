"""The model and the texts of the benchmark on a card. The only place that knows of the other encoder benchmark."""

import json
import math
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from encoding.models import build_model, read_tokenizer

LAYERS, WIDTH = 24, 1024  # of bge-m3
_DEBATE = Path(__file__).resolve().parents[2] / "examples" / "data" / "debate"
_MEAN, _SPREAD, _SHORTEST, _LONGEST = 180, 0.8, 10, 2000  # tokens of RAG chunks; of the logarithm
_LONG = 8180  # tokens cut from a longer text can be some more by themselves


@dataclass(frozen=True)
class Texts:
    """Some texts, and how many tokens each has, special ones included."""

    texts: list[str]
    lengths: list[int]

    @property
    def tokens(self) -> int:
        """Of all texts."""
        return sum(self.lengths)


@dataclass(frozen=True)
class Workload:
    """What is measured.

    Attributes:
        model: a directory with random weights of bge-m3's shape.
        layers: how many it has.
        chunks: Chinese and English passages by turns, of lognormal lengths.
        documents: as long as the model takes.
        queries: short ones.
    """

    model: Path
    layers: int
    chunks: Texts
    documents: Texts
    queries: list[str]

    def operations(self, texts: Texts) -> float:
        """Floating-point operations of the matrix products that texts need, without those of padding and of heads."""
        body = 2 * 12 * WIDTH**2 * texts.tokens  # 4 products of attention, and 2 of 4 times the width
        attention = 4 * WIDTH * sum(length**2 for length in texts.lengths)
        return float(self.layers * (body + attention))


def make_workload(directory: Path, layers: int, chunks: int, documents: int, queries: int) -> Workload:
    """Builds the model in a directory, and so many texts of each kind; the same at every call."""
    build_model(directory, layers)
    rng = np.random.default_rng(0)
    drawn = rng.lognormal(math.log(_MEAN) - _SPREAD**2 / 2, _SPREAD, chunks)
    lengths = np.clip(drawn, _SHORTEST, _LONGEST).astype(int).tolist()
    asked = [row["text"] for row in _rows("queries.jsonl")]
    return Workload(directory, layers, _cut(lengths), _cut([_LONG] * documents), list(islice(cycle(asked), queries)))


def _cut(lengths: list[int]) -> Texts:
    """Texts of about so many tokens, each from where the one before it ends."""
    tokenizer = read_tokenizer()
    chinese = "".join(row["text"] for row in _rows("corpus.jsonl"))
    english = " ".join(row["text"] for row in _rows("queries.jsonl") if row["metadata"]["kind"] == "english")
    pools = []
    for text in (chinese, english + " "):
        starts = [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]
        pools.append((text, starts))
    texts, places = [], [0, 0]
    for turn, length in enumerate(lengths):
        text, starts = pools[turn % 2]
        first, last = places[turn % 2], places[turn % 2] + length - 2
        around, end = divmod(last, len(starts))
        texts.append((text * (around + 1) + text)[starts[first] : around * len(text) + starts[end]])
        places[turn % 2] = end
    return Texts(texts, [len(encoded.ids) for encoded in tokenizer.encode_batch(texts)])


def _rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (_DEBATE / name).read_text(encoding="utf-8").splitlines()]
