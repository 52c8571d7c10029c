"""What a batch's representations are trained for: its losses, by whichever modes and dimensions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import normalize

from m3core.output import Mode
from m3core.train.collating import Batch
from m3core.train.gathering import gathered, gathered_rows
from m3core.train.losses import Graded, Losses, Targets, unified
from m3core.train.scores import SCORES, Embedded


@dataclass(frozen=True)
class Objective:
    """How to train.

    Attributes:
        modes: which representations.
        temperature: what scores are divided by.
        self_distillation: from which optimizer step on each mode learns from the ensemble too; `None` is never.
        in_turn: whether to learn from a teacher by `distilled_in_turn`.
        matryoshka: the losses are the mean over these widths of dense vectors and rows of multi-vectors, each cut to
            its first components (Matryoshka representation learning, arXiv 2205.13147); empty for the full width alone.
    """

    modes: tuple[Mode, ...]
    temperature: float
    self_distillation: int | None = 0
    in_turn: bool = False
    matryoshka: tuple[int, ...] = ()

    def losses(self, queries: Embedded, passages: Embedded, batch: Batch, step: int) -> Losses:
        """The losses of a process's queries with the passages of all processes. All of them must call it.

        Args:
            queries: this process's, or one text each of its pairs.
            passages: this process's, or the other text of each pair.
            batch: what they are.
            step: how many optimizer steps are done.
        """
        device = queries.token_ids.device
        if batch.labels is None:
            passages = gathered(passages)
            teacher = None if batch.teacher is None else torch.from_numpy(batch.teacher).to(device)
            own, allowed = (torch.from_numpy(array).to(device) for array in (batch.own, batch.allowed))
            targets: Targets | Graded = Targets(own, allowed, teacher, self.in_turn)
        else:
            targets = Graded(gathered_rows(torch.from_numpy(batch.labels).to(device)))
        distil = self.self_distillation is not None and step >= self.self_distillation and batch.labels is None
        by_width = [
            unified(
                self._scores(_cut(queries, width), _cut(passages, width), paired=batch.labels is not None),
                targets,
                temperature=self.temperature,
                self_distillation=distil,
            )
            for width in self.matryoshka or (None,)
        ]
        return _mean(by_width)

    def _scores(self, queries: Embedded, passages: Embedded, *, paired: bool) -> Mapping[Mode, torch.Tensor]:
        scores = {mode: SCORES[mode](queries, passages) for mode in self.modes}
        return {mode: gathered_rows(own.diagonal()) for mode, own in scores.items()} if paired else scores


def _cut(embedded: Embedded, width: int | None) -> Embedded:
    """The first components, of unit length again."""
    if width is None:
        return embedded

    def cut(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else normalize(tensor[:, :width], dim=-1)

    return replace(embedded, dense=cut(embedded.dense), rows=cut(embedded.rows))


def _mean(losses: Sequence[Losses]) -> Losses:
    if len(losses) == 1:
        return losses[0]
    parts = {name: torch.stack([own.parts[name] for own in losses]).mean() for name in losses[0].parts}
    return Losses(torch.stack([own.total for own in losses]).mean(), parts)
