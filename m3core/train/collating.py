"""What a batch consists of: which texts to encode, which passages belong to which query, and which count for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3core.output import FloatArray
from m3core.packing import IntArray
from m3core.tokenizer import M3Tokenizer, TextCounts
from m3core.train.batches import Place
from m3core.train.data import TrainingData
from m3core.train.records import Example, ScoredPair

_ONE_NEGATIVE = "only_1neg"
_SYMMETRIC = ("symmetric_sts", "symmetric_clustering")  # passages are texts like the queries, and get their prompt too


@dataclass(frozen=True, eq=False)
class Batch:
    """One process's share of a batch: n of its queries, and some of its m passages.

    Attributes:
        queries: the token ids of each query.
        passages: the token ids of each of this process's passages. Those of all processes, one after the other, are
            what the numbers below count.
        own: `(n, g)` which passages belong to each query, the positive first; with a teacher all that it scored, else
            the positive only.
        allowed: `(n, m)` which passages count for each query.
        teacher: `(n, g)` its scores of a query's own passages, or `None`.
        labels: `(n,)` of scored pairs, whose other texts are the passages; then there is nothing of the above.
        counts: what became of the texts.
    """

    queries: list[IntArray]
    passages: list[IntArray]
    own: IntArray
    allowed: npt.NDArray[np.bool_]
    teacher: FloatArray | None
    labels: FloatArray | None
    counts: TextCounts


@dataclass(frozen=True, eq=False)
class _Row:
    """What was drawn of an example."""

    query: str
    passages: list[str]
    scores: list[float]
    known: frozenset[str]


@dataclass(frozen=True, eq=False)
class Collator:
    """Makes the batch of some places. What it draws depends on nothing but the seed and the places.

    Attributes:
        data: what to train with.
        tokenizer: the model's.
        max_length: where to cut texts, in tokens.
        negatives: the most of a query's negatives to take.
        prompt: goes before queries that have none of their own.
        seed: of what is drawn.
        process: which share to make.
        processes: of how many.
    """

    data: TrainingData
    tokenizer: M3Tokenizer
    max_length: int
    negatives: int
    prompt: str = ""
    seed: int = 42
    process: int = 0
    processes: int = 1

    def __call__(self, places: Sequence[Place]) -> Batch:
        """The share of a batch that this process has."""
        part = self.data.parts[places[0].part]
        records = [part[place.index] for place in places]
        if part.scored:
            return self._scored([record for record in records if isinstance(record, ScoredPair)])
        examples = [record for record in records if isinstance(record, Example)]
        rows = [self._drawn(example, place) for example, place in zip(examples, places, strict=True)]
        return self._contrastive(rows, part.taught, part.local)

    def _drawn(self, example: Example, place: Place) -> _Row:
        """One positive at random, and as many negatives as wanted."""
        generator = np.random.default_rng([self.seed, place.part, place.index, place.epoch])
        positive = int(generator.integers(len(example.positives)))
        most = min(1, self.negatives) if example.kind == _ONE_NEGATIVE else self.negatives
        chosen = generator.permutation(len(example.negatives))[:most] + len(example.positives)
        taken = [positive, *chosen.tolist()]
        texts = example.positives + example.negatives
        prompt = example.prompt or self.prompt
        before = prompt if example.kind in _SYMMETRIC else ""
        return _Row(
            prompt + example.query,
            [before + texts[i] for i in taken],
            [example.scores[i] for i in taken] if example.scores else [],
            frozenset(before + text for text in example.positives),
        )

    def _contrastive(self, rows: list[_Row], taught: bool, local: bool) -> Batch:
        # Each distinct text once, in an order that all processes agree on: the shares one after the other.
        texts = sorted({text for row in rows for text in row.passages}, key=lambda text: (len(text.encode()), text))
        texts += [""] * (self.processes - len(texts))  # a share has one at least, if only to be passed over
        shares = [texts[process :: self.processes] for process in range(self.processes)]
        ordered = [text for share in shares for text in share]
        place = {text: i for i, text in enumerate(ordered)}
        known: dict[str, set[str]] = {}
        for row in rows:
            known.setdefault(row.query, set()).update(row.known)
        mine = sorted(rows[self.process :: self.processes], key=lambda row: len(row.query.encode()))
        group = min(len(row.passages) for row in rows) if taught else 1
        own = np.array([[place[text] for text in row.passages[:group]] for row in mine])
        allowed = np.tile(np.array([bool(text) and not local for text in ordered]), (len(mine), 1))
        for i, row in enumerate(mine):
            allowed[i, [place[text] for text in row.passages]] = True
            answers = (*known[row.query], row.query)  # no negatives, whichever example they are of
            allowed[i, [place[text] for text in answers if text in place]] = False
            allowed[i, own[i]] = True
        teacher = np.array([row.scores[:group] for row in mine], np.float32) if taught else None
        queries = self.tokenizer.tokenize([row.query for row in mine], self.max_length)
        passages = self.tokenizer.tokenize(shares[self.process], self.max_length)
        counts = queries.counts + passages.counts
        return Batch(queries.token_ids, passages.token_ids, own, allowed, teacher, None, counts)

    def _scored(self, pairs: list[ScoredPair]) -> Batch:
        mine = sorted(pairs[self.process :: self.processes], key=lambda pair: len((pair.text + pair.other).encode()))
        texts = self.tokenizer.tokenize([self.prompt + pair.text for pair in mine], self.max_length)
        others = self.tokenizer.tokenize([self.prompt + pair.other for pair in mine], self.max_length)
        labels = np.array([pair.score for pair in mine], np.float32)
        nothing = np.zeros((len(mine), 0))
        return Batch(
            texts.token_ids,
            others.token_ids,
            nothing.astype(np.int64),
            nothing.astype(bool),
            None,
            labels,
            texts.counts + others.counts,
        )
