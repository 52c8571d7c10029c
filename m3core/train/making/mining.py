"""Hard negatives: passages that a search finds for a query and that do not answer it.

The names of the options are those of sentence-transformers' `mine_hard_negatives`.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, get_args

from tqdm.auto import tqdm

from m3core.errors import InvalidInput
from m3core.train.records import Example, TrainingRecord
from m3core.wording import key

Search = Callable[[Sequence[str], int], Iterable[Sequence[tuple[str, float]]]]
"""Finds the best k passages for each of some queries: their texts and scores, best first, query by query."""

Score = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""Says how well each passage answers its query: (query, passage) pairs to numbers, the larger the better."""

Sampling = Literal["random", "top"]

_BLOCK = 64  # queries whose passages are scored together


@dataclass(frozen=True)
class Choice:
    """Which of the passages found become negatives.

    Known positives of the query, the query itself and repeated texts are taken out first; ranks count what is left.

    Attributes:
        negatives: how many for each record. Trainers that take groups of 8 want 7.
        range_min: the first rank that counts, from 0. The very first ones often are answers that nobody marked.
        range_max: the rank behind the last that counts.
        min_score: the least score of a negative.
        max_score: the largest one.
        absolute_margin: by how much a negative must score below the positive, at least.
        relative_margin: the same as a share of the positive's score: 0.05 takes what is below 95 % of it. That is the
            "TopK-PercPos" of NV-Retriever (arXiv 2407.15831, section 3), which found 95 % best. Of a negative score,
            the share is taken of its size, so that the bound lies below it as well.
        sampling: `"random"` among those, or the `"top"` ones.
        seed: of the random choice, which depends on nothing else but the query.

    A record with several positives is measured by the one that scores least.

    Raises:
        InvalidInput: an option that leaves nothing to choose, or is no number.
    """

    negatives: int = 7
    range_min: int = 0
    range_max: int = 200
    min_score: float | None = None
    max_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    sampling: Sampling = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise InvalidInput(f"negatives must be at least 1, not {self.negatives}")
        if not 0 <= self.range_min < self.range_max:
            raise InvalidInput(
                f"ranks are from range_min, at least 0, to below range_max, not {self.range_min} to {self.range_max}"
            )
        for name in ("absolute_margin", "relative_margin"):
            margin = getattr(self, name)
            if margin is not None and not 0 <= margin < math.inf:
                raise InvalidInput(f"{name} must be a number from 0, not {margin}")
        for name in ("min_score", "max_score"):
            if not math.isfinite(getattr(self, name) or 0.0):
                raise InvalidInput(f"{name} must be a finite number, not {getattr(self, name)}")
        if self.min_score is not None and self.max_score is not None and self.min_score > self.max_score:
            raise InvalidInput(f"min_score {self.min_score} is above max_score {self.max_score}")
        if self.sampling not in get_args(Sampling):
            raise InvalidInput(f"sampling is {' or '.join(get_args(Sampling))}, not {self.sampling!r}")

    @property
    def compares(self) -> bool:
        """Whether it looks at the positive's score."""
        return self.absolute_margin is not None or self.relative_margin is not None

    @property
    def looks_at_scores(self) -> bool:
        """Whether it looks at any score."""
        return self.compares or self.min_score is not None or self.max_score is not None

    def allows(self, score: float, positive: float) -> bool:
        """Whether a passage of this score may be a negative beside a positive of that one."""
        if self.min_score is not None and score < self.min_score:
            return False
        if self.max_score is not None and score > self.max_score:
            return False
        if self.absolute_margin is not None and not score < positive - self.absolute_margin:
            return False
        return self.relative_margin is None or score < positive - abs(positive) * self.relative_margin

    def of(self, query: str, candidates: Sequence[str]) -> tuple[str, ...]:
        """The negatives of a query among candidates, best first."""
        if self.sampling == "top" or len(candidates) <= self.negatives:
            return tuple(candidates[: self.negatives])
        places = random.Random(f"{self.seed} {query}").sample(range(len(candidates)), self.negatives)  # noqa: S311
        return tuple(candidates[place] for place in sorted(places))


def passages_of(examples: Iterable[TrainingRecord], more: Iterable[str] = ()) -> list[str]:
    """What to search by default: all positives and negatives, and `more` passages, each text once.

    Raises:
        InvalidInput: a record that is no query with positives.
    """
    texts: dict[str, str] = {}
    for example in _with_positives(examples):
        for text in (*example.positives, *example.negatives):
            texts.setdefault(key(text), text)
    for text in more:
        texts.setdefault(key(text), text)
    return list(texts.values())


def _with_positives(examples: Iterable[TrainingRecord]) -> Iterator[Example]:
    for example in examples:
        if not isinstance(example, Example):
            raise InvalidInput("scored pairs have no positives; negatives are for queries with passages that answer")
        yield example


def mine(
    examples: Iterable[TrainingRecord],
    search: Search,
    *,
    choice: Choice | None = None,
    score: Score | None = None,
    show_progress: bool = False,
) -> Iterator[Example]:
    """Gives records new negatives, in place of those that they have.

    ```python
    examples = list(read_examples("train.jsonl"))
    search = ExactSearch(encoder, passages_of(examples), modes=["dense"])
    mined = mine(examples, search, choice=Choice(range_min=2, relative_margin=0.05))
    ```

    A store searches as well, in whatever way it does:

    ```python
    def search(queries, k):
        for query in queries:
            [hits] = store.search(encoder.encode_queries([query]), k=k)
            yield [(hit.text, hit.score) for hit in hits]
    ```

    Args:
        examples: the records, from `read_examples` say.
        search: is called once, with every distinct query, bare of its prompt. For a margin it must be able to find the
            positives: one that it does not find counts as scoring less than anything that it finds.
        choice: which passages to take.
        score: a teacher. The records get its scores of their positives and negatives, for distillation; and what
            `choice` says of scores is about these, not about those of the search.
        show_progress: whether to show a progress bar.

    Yields:
        The records, those of one query side by side, otherwise in order. One for which the search found too few
        passages has what there is, or none.

    Raises:
        InvalidInput: a record that is no query with positives, or a teacher that does not give a number for each pair.
    """
    choice = choice or Choice()
    groups: dict[str, list[Example]] = {}
    known: dict[str, set[str]] = {}
    for example in _with_positives(examples):
        groups.setdefault(example.query, []).append(example)
        known.setdefault(key(example.query), {key(example.query)}).update(map(key, example.positives))
    if not groups:
        return
    most = choice.range_max + max(map(len, known.values()))
    found = zip(groups.items(), search(list(groups), most), strict=True)
    with tqdm(total=sum(map(len, groups.values())), unit="record", disable=not show_progress) as bar:
        while block := list(islice(found, _BLOCK)):
            drafts = [
                _Draft.of(example, hits, known[key(query)], choice)
                for (query, group), hits in block
                for example in group
            ]
            yield from _chosen(drafts, choice) if score is None else _taught(drafts, choice, score)
            bar.update(len(drafts))


@dataclass(frozen=True)
class _Draft:
    """A record, what may become its negatives, and scores by text; those of positives are there if they were found."""

    example: Example
    candidates: tuple[str, ...]
    scores: dict[str, float]

    @classmethod
    def of(cls, example: Example, hits: Sequence[tuple[str, float]], known: set[str], choice: Choice) -> "_Draft":
        scores: dict[str, float] = {}
        candidates: dict[str, str] = {}
        for text, score in hits:
            scores.setdefault(key(text), float(score))
            if key(text) not in known:
                candidates.setdefault(key(text), text)
        return cls(example, tuple(candidates.values())[choice.range_min : choice.range_max], scores)

    def allowed(self, choice: Choice) -> list[str]:
        """The candidates that the choice allows by their scores."""
        if not choice.looks_at_scores:
            return list(self.candidates)
        positive = min(self.scores.get(key(text), -math.inf) for text in self.example.positives)
        return [text for text in self.candidates if choice.allows(self.scores[key(text)], positive)]


def _chosen(drafts: Sequence[_Draft], choice: Choice) -> Iterator[Example]:
    for draft in drafts:
        negatives = choice.of(draft.example.query, draft.allowed(choice))
        yield replace(draft.example, negatives=negatives, scores=())


def _taught(drafts: Sequence[_Draft], choice: Choice, score: Score) -> Iterator[Example]:
    """As `_chosen`, by a teacher's scores. It is asked about all candidates only if they decide."""
    if not choice.looks_at_scores:
        drafts = [replace(draft, candidates=choice.of(draft.example.query, draft.candidates)) for draft in drafts]
    pairs = [(d.example.query, text) for d in drafts for text in (*d.example.positives, *d.candidates)]
    given = [float(value) for value in score(pairs)]
    if len(given) != len(pairs) or not all(map(math.isfinite, given)):
        raise InvalidInput(
            f"a teacher gives each of {len(pairs)} pairs a finite number; {len(given)} came back, or NaN"
        )
    scores = iter(given)
    for draft in drafts:
        texts = (*draft.example.positives, *draft.candidates)
        by_text = {key(text): next(scores) for text in texts}
        negatives = choice.of(draft.example.query, replace(draft, scores=by_text).allowed(choice))
        values = tuple(by_text[key(text)] for text in (*draft.example.positives, *negatives))
        yield replace(draft.example, negatives=negatives, scores=values)
