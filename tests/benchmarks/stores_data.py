"""The synthetic corpus of the store benchmark: made block by block, the same for every system. Needs numpy only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Sparse = tuple[Array, Array]

WIDTH, VOCABULARY, BLOCK = 1024, 250_002, 1000
GROUPS, NUMBERS, LOW = 100, 1_000_000, 100_000
WORKLOADS = {"hybrid": "hybrid", "dense": "dense", "sparse": "sparse", "group": "group, 1 %", "number": "number, 10 %"}
"""What is measured, and how the tables call it. The filtered ones are hybrid."""

_CLUSTERS, _TOPIC_TOKENS, _TOPIC_SHARE = 100, 2000, 0.25
_TOKENS, _SPREAD, _QUERY_TOKENS = 105, 0.4, 30


@dataclass(frozen=True)
class Block:
    """Some records.

    Attributes:
        rows: their numbers, which are their ids too.
        dense: unit vectors, `(n, WIDTH)`.
        sparse: token ids and weights of each.
        texts: about 800 characters each.
        groups: each group has a hundredth of all records.
        numbers: a tenth of them are below `LOW`.
    """

    rows: list[int]
    dense: Array
    sparse: list[Sparse]
    texts: list[str]
    groups: list[str]
    numbers: list[int]

    def metadata(self) -> list[dict[str, Any]]:
        """Of each record, a new dict."""
        return [{"group": group, "number": number} for group, number in zip(self.groups, self.numbers, strict=True)]


@dataclass(frozen=True)
class Query:
    """One query, and the group that it is about when it is filtered by group."""

    number: int
    dense: Array
    sparse: Sparse
    group: str

    @property
    def text(self) -> str:
        """Different for each query."""
        return f"query {self.number}"


class Corpus:
    """Records in clusters, with sparse vectors whose tokens are as unequally common as words are."""

    def __init__(self, records: int, seed: int) -> None:
        self.records = records
        self._seed = seed
        rng = np.random.default_rng([seed, 1])
        self._spectrum = (1.0 + np.arange(WIDTH, dtype=np.float32) / 32) ** -0.5  # as unequal as in real embeddings
        self._centres = self._vectors(rng, _CLUSTERS)
        self._names = rng.permutation(VOCABULARY)  # of tokens, by how common they are
        self._common = _cumulative(VOCABULARY, 3)
        self._topics = rng.integers(300, VOCABULARY, (_CLUSTERS, _TOPIC_TOKENS))
        self._topical = _cumulative(_TOPIC_TOKENS, 5)

    def blocks(self) -> Iterator[Block]:
        """All records, up to `BLOCK` at a time."""
        for first in range(0, self.records, BLOCK):
            yield self.block(first)

    def block(self, first: int) -> Block:
        """The block that begins with this record."""
        count = min(BLOCK, self.records - first)
        rng = np.random.default_rng([self._seed, 2, first])
        clusters = rng.integers(_CLUSTERS, size=count)
        drawn = rng.lognormal(np.log(_TOKENS), _SPREAD, count).clip(10, 600).astype(int)
        sparse = self._sparse(rng, clusters, drawn)
        dense = self._dense(rng, clusters)
        words = [" ".join(map("w{}".format, indices.tolist())) for indices, _ in sparse]
        groups = [f"group {number}" for number in rng.integers(GROUPS, size=count).tolist()]
        rows = list(range(first, first + count))
        texts = [f"Record {row}: {text}" for row, text in zip(rows, words, strict=True)]
        return Block(rows, dense, sparse, texts, groups, rng.integers(NUMBERS, size=count).tolist())

    def queries(self, count: int) -> list[Query]:
        """`count` queries with 30 tokens each."""
        queries = []
        for number in range(count):
            rng = np.random.default_rng([self._seed, 3, number])
            cluster = rng.integers(_CLUSTERS, size=1)
            ((indices, weights),) = self._sparse(rng, cluster, np.array([4 * _QUERY_TOKENS]))
            kept = np.sort(rng.permutation(len(indices))[:_QUERY_TOKENS])
            dense = self._dense(rng, cluster)[0]
            queries.append(Query(number, dense, (indices[kept], weights[kept]), f"group {number % GROUPS}"))
        return queries

    def sample(self) -> list[float]:
        """A few numbers that are as good as certain to differ where the corpora of two systems do."""
        block, query = self.block(self.records - 1 - (self.records - 1) % BLOCK), self.queries(1)[0]
        ids, weights = (np.concatenate(arrays) for arrays in zip(*block.sparse, query.sparse, strict=True))
        sums = [np.abs(block.dense).sum(), (ids % 1009).sum(), weights.sum(), query.dense[:8].sum(), *block.numbers[:2]]
        return [float(value) for value in sums]

    def _vectors(self, rng: np.random.Generator, count: int) -> Array:
        return _unit(rng.standard_normal((count, WIDTH), dtype=np.float32) * self._spectrum)

    def _dense(self, rng: np.random.Generator, clusters: Array) -> Array:
        return _unit(self._centres[clusters] + self._vectors(rng, len(clusters)))

    def _sparse(self, rng: np.random.Generator, clusters: Array, drawn: Array) -> list[Sparse]:
        texts = np.repeat(np.arange(len(clusters)), drawn)
        tokens = np.searchsorted(self._common, rng.random(len(texts)))
        topical = rng.random(len(texts)) < _TOPIC_SHARE
        places = np.searchsorted(self._topical, rng.random(int(topical.sum())))
        tokens[topical] = self._topics[clusters[texts[topical]], places]
        rare = np.minimum(1.0, np.log1p(tokens) / np.log(2000.0))  # common tokens weigh little
        found, firsts = np.unique(texts * VOCABULARY + self._names[tokens], return_index=True)
        weights = (0.05 + 0.3 * rng.random(len(texts))[firsts] * rare[firsts]).astype(np.float32)
        ids = (found % VOCABULARY).astype(np.int32)
        ends = np.searchsorted(found, VOCABULARY * np.arange(1, len(clusters)))
        return list(zip(np.split(ids, ends), np.split(weights, ends), strict=True))


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _cumulative(count: int, shift: int) -> Array:
    """The distribution function of Zipf's law, with the commonest `shift` left out."""
    shares = 1.0 / (np.arange(count) + shift)
    return np.cumsum(shares) / shares.sum()
