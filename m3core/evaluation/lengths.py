"""Which queries ask for short passages, and which for long ones."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from m3core.errors import InvalidInput
from m3core.evaluation.beir import JudgedSet

BOUNDS = (128, 512, 2048)
"""Where one group of lengths ends, in tokens."""


def length_groups(
    judged: JudgedSet, count: Callable[[Sequence[str]], Sequence[int]], *, bounds: Sequence[int] = BOUNDS
) -> dict[str, npt.NDArray[np.bool_]]:
    """Groups queries by the length of the passage that answers them; the mean length, where several do.

    Args:
        judged: the set.
        count: the lengths of texts in tokens, `encoder.count_tokens` say.
        bounds: the longest passages of each group but the last, ascending.

    Returns:
        Masks over the queries, as `Report.groups` gives them, under `"≤128"`, `"129–512"` and so on; only of groups
        that have queries. A query that no passage answers is in none.

    Raises:
        InvalidInput: bounds that do not ascend from 1.
    """
    if not bounds or any(low >= high for low, high in pairwise((0, *bounds))):
        raise InvalidInput(f"bounds of lengths ascend from 1, as {BOUNDS} do, not {tuple(bounds)}")
    relevant = [[p for p, grade in judged.qrels[q].items() if grade > 0] for q in judged.queries.ids]
    wanted = {passage for row in relevant for passage in row}
    texts = {p: text for p, text in zip(judged.corpus.ids, judged.corpus.texts, strict=True) if p in wanted}
    lengths = dict(zip(texts, count(list(texts.values())), strict=True))
    means = np.array([np.mean([lengths[p] for p in row]) if row else np.nan for row in relevant])
    groups = {f"≤{bounds[0]}": means <= bounds[0]}
    groups |= {f"{low + 1}–{high}": (low < means) & (means <= high) for low, high in pairwise(bounds)}
    groups[f">{bounds[-1]}"] = means > bounds[-1]
    return {label: where for label, where in groups.items() if where.any()}
