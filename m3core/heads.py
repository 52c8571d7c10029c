"""The heads: dense vectors, lexical weights and multi-vectors from packed hidden states. The only place for them.

Semantics are FlagEmbedding's (BGE-M3, arXiv 2402.03216, section 3.2), computed on packed tokens, never on padding, and
without a tensor of the vocabulary's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from m3core.backbones import Linear
from m3core.backbones.memory import out_of_memory_named
from m3core.output import FloatArray, SparseVector
from m3core.packing import Group, IntArray, Pack, PackOutput


@dataclass(frozen=True, eq=False)
class Heads:
    """What turns hidden states into representations.

    Attributes:
        pooling: `"cls"` (the first token) or `"mean"` (all tokens, special ones too), for dense.
        normalize: whether dense vectors get unit length.
        sparse: the layer that gives each token's lexical weight, `(tokens, 1)` float32, or `None`.
        multivector: the one that gives its row of a multi-vector, `(tokens, d)`, or `None`.
        special_ids: token ids that never count lexically.
        mcls: the tokenizer put a CLS token before every so many tokens of a text; `None`: before the first only. Dense
            is the mean of all of them, normalized afterwards (MCLS, appendix B.2).
    """

    pooling: str
    normalize: bool
    sparse: Linear | None
    multivector: Linear | None
    special_ids: frozenset[int]
    mcls: int | None = None

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
        wants, ids = group.wants, pack.token_ids
        weights = self._token_weights(states, ids) if {"sparse", "weights"} & set(wants) else None
        return PackOutput(
            self._dense(states, pack) if "dense" in wants else None,
            lexical_vectors(ids, weights, pack.lengths) if weights is not None and "sparse" in wants else None,
            self._multivectors(states, pack) if "multivector" in wants else None,
            self._own_weights(weights, pack) if weights is not None and "weights" in wants else None,
        )

    def _cls(self, pack: Pack) -> tuple[IntArray, IntArray]:
        """Where CLS tokens are, in the order of the texts, and how many each text has.

        Counted as in `TokenizedTexts`, not looked up by their id, which a text can spell out itself.
        """
        if self.mcls is None:
            return pack.starts, np.ones_like(pack.lengths)
        step = self.mcls + 1
        counts = 1 + (pack.lengths - 2) // step
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(pack.starts, counts) + nth * step, counts

    def _kept(self, pack: Pack) -> tuple[IntArray, IntArray]:
        """Where all other tokens are, `</s>` too, and how many each text has."""
        places, counts = self._cls(pack)
        return np.delete(np.arange(len(pack.token_ids)), places), pack.lengths - counts

    def _token_weights(self, states: torch.Tensor, token_ids: npt.NDArray[np.int64]) -> FloatArray:
        """The lexical weight of each token, `(tokens,)` float32: ReLU of the sparse head, 0 for special tokens."""
        assert self.sparse is not None
        weights: FloatArray = self.sparse.apply(states).relu()[:, 0].cpu().numpy()
        weights[np.isin(token_ids, list(self.special_ids))] = 0.0
        return weights

    def _own_weights(self, weights: FloatArray, pack: Pack) -> list[FloatArray]:
        kept, lengths = self._kept(pack)
        return _split(weights[kept], lengths)

    def _dense(self, states: torch.Tensor, pack: Pack) -> FloatArray:
        if self.pooling == "cls":
            places, counts = self._cls(pack)
            pooled = states.index_select(0, torch.from_numpy(places).to(states.device)).float()
            if len(places) > len(counts):
                pooled = torch.stack([text.mean(0) for text in pooled.split(counts.tolist())])
        else:
            pooled = torch.stack([text.mean(0) for text in states.float().split(pack.lengths.tolist())])
        vectors: FloatArray = (normalize(pooled, dim=-1) if self.normalize else pooled).cpu().numpy()
        return vectors

    def _multivectors(self, states: torch.Tensor, pack: Pack) -> list[FloatArray]:
        assert self.multivector is not None
        kept, lengths = self._kept(pack)  # <s> has no row, </s> has one
        rows = self.multivector.apply(states.index_select(0, torch.from_numpy(kept).to(states.device))).float()
        return _split(normalize(rows, dim=-1).cpu().numpy(), lengths)


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
