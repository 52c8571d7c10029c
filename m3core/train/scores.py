"""Differentiable scores between texts by each mode, from packed representations; no padding and no vocabulary."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from m3core.output import Mode

_PRODUCTS = 1 << 26  # of rows, at once: 256 MB


@dataclass(frozen=True, eq=False)
class Embedded:
    """Representations of n texts that gradients flow through; what was not made is `None`.

    Attributes:
        token_ids: `(tokens,)` of all texts side by side, special tokens too.
        lengths: how many tokens each text has.
        dense: `(n, d)` of unit length.
        weights: `(tokens,)` lexical weights, not negative; 0 for special tokens.
        rows: `(tokens - n, w)` of unit length: a multi-vector has a row for each token but the first.
    """

    token_ids: torch.Tensor
    lengths: tuple[int, ...]
    dense: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    rows: torch.Tensor | None = None

    @property
    def texts(self) -> torch.Tensor:
        """`(tokens,)` which text each token is of."""
        lengths = torch.tensor(self.lengths, device=self.token_ids.device)
        return torch.repeat_interleave(torch.arange(len(self.lengths), device=lengths.device), lengths)


def dense_scores(queries: Embedded, passages: Embedded) -> torch.Tensor:
    """Cosine of each query with each passage, `(n, m)`."""
    assert queries.dense is not None
    assert passages.dense is not None
    return queries.dense @ passages.dense.T


def sparse_scores(queries: Embedded, passages: Embedded) -> torch.Tensor:
    """Lexical score of each query with each passage, `(n, m)`: over common tokens, the products of largest weights.

    Only tokens of the queries have columns, so that nothing is as wide as the vocabulary.
    """
    assert queries.weights is not None
    assert passages.weights is not None
    columns, own = torch.unique(queries.token_ids, return_inverse=True)
    places = torch.searchsorted(columns, passages.token_ids).clamp_(max=len(columns) - 1)
    common = columns[places] == passages.token_ids
    return (
        _largest(queries.weights, queries.texts, own, (len(queries.lengths), len(columns)))
        @ _largest(
            passages.weights[common], passages.texts[common], places[common], (len(passages.lengths), len(columns))
        ).T
    )


def multivector_scores(queries: Embedded, passages: Embedded) -> torch.Tensor:
    """MaxSim of each query with each passage, `(n, m)`: for each row of the query its best product, and their mean.

    A passage's rows are its own alone. FlagEmbedding's training lets rows of padding, which are 0, count as well.
    """
    assert queries.rows is not None
    assert passages.rows is not None
    lengths = [n - 1 for n in passages.lengths]
    blocks = list(_blocks(lengths, max(lengths[0], _PRODUCTS // len(queries.rows))))
    rows = passages.rows.split([sum(block) for block in blocks])
    if len(blocks) == 1:
        best = _best(queries.rows, passages.rows, lengths)
    else:  # products are made again when gradients are taken, so that there is one block of them at a time
        made = [
            checkpoint(_best, queries.rows, own, block, use_reentrant=False)
            for own, block in zip(rows, blocks, strict=True)
        ]
        best = torch.cat(made, 1)
    return torch.stack([own.mean(0) for own in best.split([n - 1 for n in queries.lengths])])


def _best(queries: torch.Tensor, rows: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """For each row of the queries its best product with each passage, `(rows, passages)`."""
    return torch.stack([own.amax(1) for own in (queries @ rows.T).split(lengths, 1)], 1)


def _blocks(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Neighbours of so many rows at most, or a single one."""
    block: list[int] = []
    for length in lengths:
        if block and sum(block) + length > most:
            yield block
            block = []
        block.append(length)
    yield block


SCORES: Mapping[Mode, Callable[[Embedded, Embedded], torch.Tensor]] = {
    "dense": dense_scores,
    "sparse": sparse_scores,
    "multivector": multivector_scores,
}


def _largest(weights: torch.Tensor, texts: torch.Tensor, columns: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The largest weight of each token in each text, 0 where there is none."""
    flat = torch.zeros(shape[0] * shape[1], dtype=weights.dtype, device=weights.device)
    return flat.scatter_reduce(0, texts * shape[1] + columns, weights, "amax").view(shape)
