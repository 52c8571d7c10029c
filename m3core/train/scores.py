"""Differentiable scores between texts by each mode, from packed representations; no padding and no vocabulary."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from m3core.output import Mode


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
    products = queries.rows @ passages.rows.T
    best = torch.stack([own.amax(1) for own in products.split([n - 1 for n in passages.lengths], 1)], 1)
    return torch.stack([own.mean(0) for own in best.split([n - 1 for n in queries.lengths])])


SCORES: Mapping[Mode, Callable[[Embedded, Embedded], torch.Tensor]] = {
    "dense": dense_scores,
    "sparse": sparse_scores,
    "multivector": multivector_scores,
}


def _largest(weights: torch.Tensor, texts: torch.Tensor, columns: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The largest weight of each token in each text, 0 where there is none."""
    flat = torch.zeros(shape[0] * shape[1], dtype=weights.dtype, device=weights.device)
    return flat.scatter_reduce(0, texts * shape[1] + columns, weights, "amax").view(shape)
