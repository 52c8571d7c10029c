"""What an explanation says, as plain values: scores, matches, alignments, and where they are in the texts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from m3core.output import FloatArray, Mode

Span = tuple[int, int]
"""Where something begins in a text, and where it ends, in characters. The end of a text is `(len(text), len(text))`."""


@dataclass(frozen=True)
class Match:
    """A token that the query and the passage share.

    Attributes:
        token: as it stands in the query.
        query_weight: its lexical weight there, the largest if it is there several times.
        passage_weight: likewise.
        query_spans: where it stands.
        passage_spans: likewise.
    """

    token: str
    query_weight: float
    passage_weight: float
    query_spans: Sequence[Span]
    passage_spans: Sequence[Span]

    @property
    def score(self) -> float:
        """What it adds to the sparse score: the product of the weights."""
        return self.query_weight * self.passage_weight


@dataclass(frozen=True)
class Aligned:
    """A token of the query, and the one of the passage that MaxSim takes for it.

    Attributes:
        query: where the first stands; the mark for the end of the text, which has a row as well, is at the very end.
        passage: where the other does.
        similarity: of their rows. The multi-vector score is the mean of them over the query's rows.
    """

    query: Span
    passage: Span
    similarity: float


@dataclass(frozen=True)
class Highlight:
    """A part of the passage that contributes.

    Attributes:
        start: where it begins, in characters.
        end: where it ends.
        strength: what its tokens add to the fused score, in relation to the strongest part: over 0, up to 1.
    """

    start: int
    end: int
    strength: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a passage was found.

    Attributes:
        query: its text, after the encoder's instruction if it has one.
        passage: its text.
        scores: by each mode.
        weights: of each mode in the sum.
        matches: shared tokens by what they add to the sparse score, the largest first. Their scores sum to it.
        query_spans: the query's tokens and the end of the text: the rows of `similarity`.
        passage_spans: likewise, its columns.
        similarity: `(len(query_spans), len(passage_spans))` float32, dot products of the rows of the multi-vectors;
            `None` if the model has none.
    """

    query: str
    passage: str
    scores: Mapping[Mode, float]
    weights: Mapping[Mode, float]
    matches: Sequence[Match]
    query_spans: Sequence[Span]
    passage_spans: Sequence[Span]
    similarity: FloatArray | None

    @property
    def shares(self) -> dict[Mode, float]:
        """What each mode adds to the fused score: its score by its weight."""
        return {mode: self.weights[mode] * score for mode, score in self.scores.items()}

    @property
    def score(self) -> float:
        """The fused score: the sum of the shares."""
        return sum(self.shares.values())

    @property
    def alignments(self) -> list[Aligned]:
        """One for each row of the query, in its order; none if the model has no multi-vectors."""
        if self.similarity is None:
            return []
        best = self.similarity.argmax(axis=1).tolist()
        return [
            Aligned(self.query_spans[row], self.passage_spans[column], float(self.similarity[row, column]))
            for row, column in enumerate(best)
        ]

    def highlights(self, *modes: Mode) -> list[Highlight]:
        """The parts of the passage that contribute, in its order; they do not overlap.

        A token that matches lexically adds what it does wherever it stands, and one that query tokens were aligned to
        what these add together. Dense vectors are of the whole passage, and point at no part of it.

        Args:
            modes: only those by these; none means all.
        """
        added = np.zeros(len(self.passage))
        if not modes or "sparse" in modes:
            found = np.zeros_like(added)
            for match in self.matches:
                for start, end in match.passage_spans:
                    found[start:end] = np.maximum(found[start:end], self.weights["sparse"] * match.score)
            added += found
        if self.similarity is not None and (not modes or "multivector" in modes):
            for aligned in self.alignments:
                start, end = aligned.passage
                added[start:end] += self.weights["multivector"] * aligned.similarity / len(self.query_spans)
        return _runs(added)

    def as_dict(self) -> dict[str, Any]:
        """All of it but for `similarity`, as JSON can hold it; tokens are written out."""
        return {
            "query": self.query,
            "passage": self.passage,
            "score": self.score,
            "scores": dict(self.scores),
            "shares": self.shares,
            "matches": [asdict(match) | {"score": match.score} for match in self.matches],
            "alignments": [
                {
                    "query": self.query[slice(*aligned.query)],
                    "passage": self.passage[slice(*aligned.passage)],
                    "query_span": list(aligned.query),
                    "passage_span": list(aligned.passage),
                    "similarity": aligned.similarity,
                }
                for aligned in self.alignments
            ],
            "highlights": [asdict(highlight) for highlight in self.highlights()],
        }

    def to_html(self) -> str:
        """A page of its own, without scripts, that refers to nothing else. Texts are shown as they are, not run."""
        from m3core.explaining.html import Found, page

        return page(Found(self.query, [self]))


def _runs(added: npt.NDArray[np.float64]) -> list[Highlight]:
    most = float(added.max(initial=0.0))
    runs: list[Highlight] = []
    start = 0
    for value, run in groupby(added.tolist()):
        end = start + len(list(run))
        if value > 0:
            runs.append(Highlight(start, end, value / most))
        start = end
    return runs
