"""Which records go into a batch together: of one data set, of similar length, as many as a budget allows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from m3core.output import FloatArray
from m3core.train.data import Part

BYTES_PER_TOKEN = 4.5
"""Of UTF-8, about, in Chinese as in English with XLM-R's vocabulary: lengths are estimated, not counted beforehand."""

_NOISE = 0.25  # how much a record's length counts for more or less, so that it meets others in each epoch


@dataclass(frozen=True)
class Place:
    """A record in an epoch.

    Attributes:
        part: which data set.
        index: which record of it.
        epoch: which time it comes; with the seed it decides what is drawn of the record.
    """

    part: int
    index: int
    epoch: int


class Batches(Sampler[list[Place]]):
    """Batches of all data sets in random order; each epoch has as many.

    A batch has records of one data set and of similar length (BGE-M3, arXiv 2402.03216, section 3.3). They are the same
    for every number of processes that divides the batch sizes: each process takes its share of the same batch.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        batch_size: int,
        *,
        negatives: int = 0,
        batch_tokens: int | None = None,
        processes: int = 1,
        seed: int = 42,
    ) -> None:
        """Decides how many records each batch has.

        Args:
            parts: the data sets.
            batch_size: the most records of a batch, in all processes together.
            negatives: how many of a record's negatives a batch takes.
            batch_tokens: the most tokens of a batch, about; `None` is no limit. Long records come in smaller batches.
            processes: batches can be shared by so many; what is left over of a data set is left out, at random.
            seed: of everything that is drawn.
        """
        self._lengths = [part.lengths(negatives) for part in parts]
        self._seed = seed
        self._epoch = 0
        limit = None if batch_tokens is None else batch_tokens * BYTES_PER_TOKEN
        self._cuts = [_cut(np.sort(lengths)[::-1], batch_size, limit, processes) for lengths in self._lengths]

    def set_epoch(self, epoch: int) -> None:
        """Is told which epoch comes."""
        self._epoch = epoch

    def __len__(self) -> int:
        return sum(map(len, self._cuts))

    def __iter__(self) -> Iterator[list[Place]]:
        generator = np.random.default_rng([self._seed, self._epoch])
        batches: list[list[Place]] = []
        for i, (lengths, sizes) in enumerate(zip(self._lengths, self._cuts, strict=True)):
            kept = generator.permutation(len(lengths))[: sum(sizes)]
            near = lengths[kept] * generator.uniform(1 - _NOISE, 1 + _NOISE, len(kept))
            ordered = kept[np.argsort(-near, kind="stable")].tolist()
            ends = np.cumsum(sizes).tolist()
            batches += [
                [Place(i, index, self._epoch) for index in ordered[end - size : end]]
                for end, size in zip(ends, sizes, strict=True)
            ]
        for i in generator.permutation(len(batches)):
            yield batches[i]


def _cut(lengths: FloatArray, batch_size: int, limit: float | None, processes: int) -> list[int]:
    """How many records go into each batch when they come longest first: as even as can be, multiples of `processes`."""
    groups = len(lengths) // processes  # a group has a record for each process
    most = max(1, batch_size // processes)
    if limit is None:
        batches = -(-groups // most)
        return [(groups * (i + 1) // batches - groups * i // batches) * processes for i in range(batches)]
    sizes: list[int] = []
    total = 0.0
    for group in range(groups):
        more = float(lengths[group * processes : (group + 1) * processes].sum())
        if not sizes or sizes[-1] == most * processes or total + more > limit:
            sizes.append(0)
            total = 0.0
        sizes[-1] += processes
        total += more
    return sizes
