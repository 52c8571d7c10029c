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
from m3core.output import FloatArray, Mode, SparseVector
from m3core.packing import Pack


@dataclass(frozen=True, eq=False)
class PackOutput:
    """The representations of a pack's texts, in the pack's order; a mode not asked for is `None`."""

    dense: FloatArray | None
    sparse: list[SparseVector] | None
    multivector: list[FloatArray] | None


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
    def apply(self, states: torch.Tensor, pack: Pack, modes: Sequence[Mode]) -> PackOutput:
        """All of `modes` from the hidden states `(tokens, hidden)` of one pack.

        Raises:
            OutOfMemory: the pack is too large for the device.
        """
        sparse = None
        if "sparse" in modes:
            ids, lengths = pack.token_ids, pack.lengths
            sparse = lexical_vectors(ids, self.token_weights(states, pack), lengths)
        return PackOutput(
            self._dense(states, pack) if "dense" in modes else None,
            sparse,
            self._multivectors(states, pack) if "multivector" in modes else None,
        )

    @torch.inference_mode()
    def token_weights(self, states: torch.Tensor, pack: Pack) -> FloatArray:
        """The lexical weight of each token, `(tokens,)` float32: ReLU of the sparse head, 0 for special tokens."""
        assert self.sparse is not None
        weights: FloatArray = linear(states.float(), *self.sparse).relu()[:, 0].cpu().numpy()
        weights[np.isin(pack.token_ids, list(self.special_ids))] = 0.0
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
        rows = normalize(linear(kept, *self.multivector).float(), dim=-1).cpu().numpy()
        return np.split(rows, np.cumsum(pack.lengths - 1)[:-1])


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
        SparseVector(i, v)
        for i, v in zip(np.split(ids[first].astype(np.int32), cuts), np.split(values, cuts), strict=True)
    ]
