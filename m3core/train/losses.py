"""Losses of contrastive training over scores of queries with passages, as in BGE-M3 (arXiv 2402.03216, section 3.3).

Scores come undivided by the temperature. Each function gives a scalar.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, log_softmax, softmax

from m3core.output import Mode

TEMPERATURE = 0.02
_PARTS: Mapping[Mode, float] = {"dense": 1.0, "sparse": 0.3, "multivector": 1.0}  # in the ensemble's score
_WEIGHTS: Mapping[Mode, float] = {"dense": 1.0, "sparse": 0.1, "multivector": 1.0}  # of the losses


def info_nce(
    scores: torch.Tensor,
    positives: torch.Tensor,
    *,
    temperature: float = TEMPERATURE,
    allowed: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy of each query's positive passage among all that are allowed; the mean over queries.

    Args:
        scores: `(n, m)`.
        positives: `(n,)` int64, the passage that belongs to each query.
        temperature: what scores are divided by.
        allowed: `(n, m)` bool, the passages that count; a query's positive must be among them.
    """
    return cross_entropy(_masked(scores / temperature, allowed), positives)


def distilled(scores: torch.Tensor, teacher: torch.Tensor, *, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Cross-entropy with what a teacher says of each query's own passages (`kl_div` of FlagEmbedding).

    Args:
        scores: `(n, g)`.
        teacher: `(n, g)`, the teacher's scores; their softmax is the target.
        temperature: what `scores` are divided by; the teacher's are taken as they are.
    """
    return -(softmax(teacher, -1) * log_softmax(scores / temperature, -1)).sum(-1).mean()


def distilled_in_turn(
    scores: torch.Tensor,
    teacher: torch.Tensor,
    own: torch.Tensor,
    *,
    temperature: float = TEMPERATURE,
    allowed: torch.Tensor | None = None,
) -> torch.Tensor:
    """Each of a query's own passages in turn against all but those before it (`m3_kd_loss` of FlagEmbedding).

    Args:
        scores: `(n, m)` with all passages.
        teacher: `(n, g)`, the teacher's scores of the query's own passages; their softmax weighs the turns.
        own: `(n, g)` int64, which passages these are.
        temperature: what `scores` are divided by.
        allowed: as of `info_nce`; a query's own passages must be among them.
    """
    shares, left = softmax(teacher, -1), _masked(scores / temperature, allowed)
    total = scores.new_zeros(())
    for turn in range(own.shape[1]):
        losses = cross_entropy(left, own[:, turn], reduction="none")
        total = total + (shares[:, turn] * losses).mean()
        left = left.scatter(1, own[:, turn : turn + 1], -torch.inf)
    return total


def cosent(scores: torch.Tensor, labels: torch.Tensor, *, scale: float = 20.0) -> torch.Tensor:
    """CoSENT: pairs with a higher label should score higher (https://kexue.fm/archives/8847).

    Args:
        scores: `(n,)` of n pairs of texts.
        labels: `(n,)` how similar each pair is; only their order counts.
        scale: what differences are multiplied by.
    """
    differences = scale * (scores[None] - scores[:, None])  # [i, j] is s_j - s_i
    wrong = differences[labels[:, None] > labels[None]]
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), 0)


@dataclass(frozen=True, eq=False)
class Targets:
    """What scores of n queries with m passages are to become.

    Attributes:
        own: `(n, g)` int64, which passages belong to each query, the positive one first.
        allowed: as of `info_nce`; a query's own passages are among them.
        teacher: `(n, g)` the scores that a teacher gives a query's own passages, if there is one.
        in_turn: whether to learn from the teacher by `distilled_in_turn`, and not by `distilled` and `info_nce` both.
    """

    own: torch.Tensor
    allowed: torch.Tensor | None = None
    teacher: torch.Tensor | None = None
    in_turn: bool = False

    def loss(self, scores: torch.Tensor, temperature: float) -> torch.Tensor:
        """The loss of the scores by one mode or of the ensemble."""
        if self.teacher is not None and self.in_turn:
            return distilled_in_turn(scores, self.teacher, self.own, temperature=temperature, allowed=self.allowed)
        loss = info_nce(scores, self.own[:, 0], temperature=temperature, allowed=self.allowed)
        if self.teacher is not None:
            loss = loss + distilled(scores.gather(1, self.own), self.teacher, temperature=temperature)
        return loss


@dataclass(frozen=True, eq=False)
class Graded:
    """What scores of n pairs of texts are to become: ordered as their labels, `(n,)`."""

    labels: torch.Tensor
    allowed: None = None

    def loss(self, scores: torch.Tensor, temperature: float) -> torch.Tensor:
        """CoSENT of the pairs' scores, `(n,)`; it has a scale of its own in place of the temperature."""
        return cosent(scores, self.labels)


@dataclass(frozen=True, eq=False)
class Losses:
    """A loss and what it consists of.

    Attributes:
        total: to go down.
        parts: by mode, `"ensemble"` and `"self-distillation"`.
    """

    total: torch.Tensor
    parts: dict[str, torch.Tensor]


def unified(
    scores: Mapping[Mode, torch.Tensor],
    targets: Targets | Graded,
    *,
    temperature: float = TEMPERATURE,
    self_distillation: bool = False,
) -> Losses:
    """The loss over several modes: of each, and of the ensemble of all.

    With three of them, (L_dense + 0.1 L_sparse + L_multivector + L_ensemble) / 4, where the ensemble's score is
    s_dense + 0.3 s_sparse + s_multivector; with fewer, what is left of both. A single mode has its own loss alone.

    Args:
        scores: `(n, m)` by mode; of graded pairs `(n,)`.
        targets: of each of them.
        temperature: what scores are divided by.
        self_distillation: whether each mode learns from the ensemble too. The loss is the mean of the above and of
            (D_dense + 0.1 D_sparse + D_multivector) / 3, D being the cross-entropy with the ensemble's softmax.
    """
    parts = {str(mode): targets.loss(own, temperature) for mode, own in scores.items()}
    if len(scores) == 1:
        return Losses(next(iter(parts.values())), parts)
    weighted = torch.stack([_WEIGHTS[mode] * parts[mode] for mode in scores]).sum()
    ensemble = torch.stack([_PARTS[mode] * own for mode, own in scores.items()]).sum(0)
    parts["ensemble"] = targets.loss(ensemble, temperature)
    total = (weighted + parts["ensemble"]) / (len(scores) + 1)
    if self_distillation:
        aim = softmax(_masked(ensemble.detach() / temperature, targets.allowed), -1)
        learned = [_WEIGHTS[mode] * _soft(own / temperature, aim, targets.allowed) for mode, own in scores.items()]
        parts["self-distillation"] = torch.stack(learned).mean()
        total = (total + parts["self-distillation"]) / 2
    return Losses(total, parts)


def _soft(scores: torch.Tensor, aim: torch.Tensor, allowed: torch.Tensor | None) -> torch.Tensor:
    """Cross-entropy with a distribution, the mean over rows."""
    logs = log_softmax(_masked(scores, allowed), -1)
    return -(aim * (logs if allowed is None else logs.masked_fill(~allowed, 0))).sum(-1).mean()


def _masked(scores: torch.Tensor, allowed: torch.Tensor | None) -> torch.Tensor:
    return scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)
