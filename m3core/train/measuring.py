"""What a dev set says of a model while it is trained: nDCG@10 by each mode, or how well scores follow labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3core.evaluation.beir import JudgedSet, Passages
from m3core.evaluation.metrics import parse_metrics
from m3core.evaluation.report import evaluate
from m3core.fusion import WeightedSum, fuse
from m3core.output import M3Output, Mode
from m3core.packing import TokenBudget
from m3core.scoring import mode_scores
from m3core.tokenizer import M3Tokenizer
from m3core.train.model import TrainableModel
from m3core.train.records import Example, ScoredPair, TrainingRecord

_METRIC = "nDCG@10"
Measures = dict[str, float]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A model in training, with what `evaluate` asks of an encoder."""

    model: TrainableModel
    tokenizer: M3Tokenizer
    max_length: int
    budget: TokenBudget
    score_weights: tuple[float, float, float]
    prompt: str = ""

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What it can represent a text as."""
        return self.model.modes

    def encode_documents(self, texts: Iterable[str], *, show_progress: bool = False) -> M3Output:
        """The representations of passages."""
        tokenized = self.tokenizer.tokenize(list(texts), self.max_length)
        return self.model.represent(tokenized.token_ids, self.budget.tokens)

    def encode_queries(self, texts: Iterable[str], *, show_progress: bool = False) -> M3Output:
        """The representations of queries."""
        return self.encode_documents([self.prompt + text for text in texts])


@dataclass(frozen=True, eq=False)
class JudgedDev:
    """Queries that are to find their passages. The measure is nDCG@10: of the hybrid if there are several modes."""

    judged: JudgedSet
    metric: str = "ndcg@10"

    def __post_init__(self) -> None:
        parse_metrics([_METRIC])  # what is not installed shows before anything is trained

    def __len__(self) -> int:
        return len(self.judged.queries.ids)

    def __call__(self, snapshot: Snapshot) -> Measures:
        """The measure, and that of each mode."""
        report = evaluate(snapshot, self.judged, metrics=[_METRIC], bm25=False)
        by_system = {system: report.mean(system, _METRIC) for system in report.systems}
        best = by_system.get("hybrid", by_system["dense"])
        modes = {f"{system}_{self.metric}": mean for system, mean in by_system.items() if system != "hybrid"}
        return {self.metric: best, **(modes if len(modes) > 1 else {})}


@dataclass(frozen=True, eq=False)
class ScoredDev:
    """Pairs whose scores are to follow their labels. The measure is Spearman's rank correlation."""

    pairs: Sequence[ScoredPair]
    metric: str = "spearman"

    def __len__(self) -> int:
        return len(self.pairs)

    def __call__(self, snapshot: Snapshot) -> Measures:
        """The measure, of the hybrid score if there are several modes."""
        from scipy.stats import spearmanr

        texts, others = (
            snapshot.encode_queries([getattr(pair, name) for pair in self.pairs]) for name in ("text", "other")
        )
        weights = WeightedSum(*snapshot.score_weights)
        scores = [
            fuse({mode: mode_scores(texts[i : i + 1], others[i : i + 1], mode) for mode in snapshot.modes}, weights)
            for i in range(len(self.pairs))
        ]
        found: Any = spearmanr(np.concatenate(scores).ravel(), [pair.score for pair in self.pairs])
        return {self.metric: float(found.statistic)}


Dev = JudgedDev | ScoredDev


def dev_of(records: Sequence[TrainingRecord], name: str) -> Dev:
    """A dev set of records."""
    if isinstance(records[0], ScoredPair):
        return ScoredDev([record for record in records if isinstance(record, ScoredPair)])
    return JudgedDev(judged_by([record for record in records if isinstance(record, Example)], name))


def judged_by(examples: Iterable[Example], name: str) -> JudgedSet:
    """A judged set of training records: each query is to find its positives among all passages of all of them."""
    places: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for example in examples:
        for text in example.positives + example.negatives:
            places.setdefault(text, str(len(places)))
        query = queries.setdefault(example.prompt + example.query, str(len(queries)))
        qrels.setdefault(query, {}).update({places[text]: 1 for text in example.positives})
    corpus = Passages(list(places.values()), list(places), [{}] * len(places))
    asked = Passages(list(queries.values()), list(queries), [{}] * len(queries))
    return JudgedSet(name, corpus, asked, qrels)
