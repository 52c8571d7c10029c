"""The heads: dense vectors, lexical weights and multi-vectors from packed hidden states. The only place for them.

Semantics are FlagEmbedding's (BGE-M3, arXiv 2402.03216, section 3.2), computed on packed tokens, never on padding, and
without a tensor of the vocabulary's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import linear, normalize

from m3core.backbones.memory import out_of_memory_named
from m3core.output import FloatArray, SparseVector
from m3core.packing import Group, Pack, PackOutput


@dataclass(frozen=True, eq=False)
class Heads:
    """What turns hidden states into representations.

    Attributes:
        pooling: `"cls"` (the first token) or `"mean"` (all tokens, special ones too), for dense.
        normalize: whether dense vectors get unit length.
        sparse: weight `(1, hidden)` and bias `(1,)` in float32, or `None`.
        multivector: weight `(d, hidden)` and bias `(d,)` in the backbone's dtype, or `None`.
        special_ids: token ids that never count lexically.
    """

    pooling: str
    normalize: bool
    sparse: tuple[torch.Tensor, torch.Tensor] | None
    multivector: tuple[torch.Tensor, torch.Tensor] | None
    special_ids: frozenset[int]

    @out_of_memory_named()
    @torch.inference_mode()
    def apply(self, states: torch.Tensor, pack: Pack, groups: Sequence[Group]) -> list[PackOutput]:
        """What each group of a pack's texts wants, from the hidden states `(tokens, hidden)` of the pack.

        Raises:
            OutOfMemory: the pack is too large for the device.
        """
        parts = pack.split([group.texts for group in groups])
        return [self._apply(states[rows], part, group) for (rows, part), group in zip(parts, groups, strict=True)]

    def _apply(self, states: torch.Tensor, pack: Pack, group: Group) -> PackOutput:
        wants, ids, lengths = group.wants, pack.token_ids, pack.lengths
        weights = self._token_weights(states, ids) if {"sparse", "weights"} & set(wants) else None
        return PackOutput(
            self._dense(states, pack) if "dense" in wants else None,
            lexical_vectors(ids, weights, lengths) if weights is not None and "sparse" in wants else None,
            self._multivectors(states, pack) if "multivector" in wants else None,
            _split(weights, lengths) if weights is not None and "weights" in wants else None,
        )

    def _token_weights(self, states: torch.Tensor, token_ids: npt.NDArray[np.int64]) -> FloatArray:
        """The lexical weight of each token, `(tokens,)` float32: ReLU of the sparse head, 0 for special tokens."""
        assert self.sparse is not None
        weights: FloatArray = linear(states.float(), *self.sparse).relu()[:, 0].cpu().numpy()
        weights[np.isin(token_ids, list(self.special_ids))] = 0.0
        return weights

    def _dense(self, states: torch.Tensor, pack: Pack) -> FloatArray:
        if self.pooling == "cls":
            pooled = states[torch.from_numpy(pack.starts).to(states.device)].float()
        else:
            pooled = torch.stack([text.mean(0) for text in states.float().split(pack.lengths.tolist())])
        vectors: FloatArray = (normalize(pooled, dim=-1) if self.normalize else pooled).cpu().numpy()
        return vectors

    def _multivectors(self, states: torch.Tensor, pack: Pack) -> list[FloatArray]:
        assert self.multivector is not None
        keep = np.ones(len(pack.token_ids), dtype=bool)
        keep[pack.starts] = False  # <s> has no row, </s> has one
        kept = states[torch.from_numpy(np.flatnonzero(keep)).to(states.device)]
        rows = normalize(linear(kept.to(self.multivector[0].dtype), *self.multivector).float(), dim=-1).cpu().numpy()
        return _split(rows, pack.lengths - 1)


def _split(rows: FloatArray, lengths: npt.NDArray[np.int64]) -> list[FloatArray]:
    """Each text's rows, in an array of its own: a view would keep those of all other calls in the pack."""
    return [part.copy() for part in np.split(rows, np.cumsum(lengths)[:-1])]


def lexical_vectors(
    token_ids: npt.NDArray[np.int64], weights: FloatArray, lengths: npt.NDArray[np.int64]
) -> list[SparseVector]:
    """The largest weight of each distinct token of each text; tokens without a positive weight are left out.

    Args:
        token_ids: `(tokens,)` of all texts, one after the other.
        weights: `(tokens,)`.
        lengths: `(n,)` tokens of each text.

    Returns:
        n vectors, indices increasing.
    """
    text = np.repeat(np.arange(len(lengths)), lengths)
    used = weights > 0
    text, ids, weights = text[used], token_ids[used], weights[used]
    order = np.lexsort((ids, text))
    text, ids, weights = text[order], ids[order], weights[order]
    first = np.flatnonzero(np.diff(text, prepend=-1) | np.diff(ids, prepend=-1))
    values = np.maximum.reduceat(weights, first) if len(first) else weights
    cuts = np.searchsorted(text[first], np.arange(1, len(lengths)))
    return [
        SparseVector(i.copy(), v.copy())  # not views, as in `_split`
        for i, v in zip(np.split(ids[first].astype(np.int32), cuts), np.split(values, cuts), strict=True)
    ]
