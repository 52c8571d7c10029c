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
from m3core.packing import Group, IntArray, Pack, PackOutput


@dataclass(frozen=True, eq=False)
class Heads:
    """What turns hidden states into representations.

    Attributes:
        pooling: `"cls"` (the first token) or `"mean"` (all tokens, special ones too), for dense.
        normalize: whether dense vectors get unit length.
        sparse: weight `(1, hidden)` and bias `(1,)` in float32, or `None`.
        multivector: weight `(d, hidden)` and bias `(d,)` in the backbone's dtype, or `None`.
        special_ids: token ids that never count lexically.
        mcls: the tokenizer put a CLS token before every so many tokens of a text; `None`: before the first only. Dense
            is the mean of all of them, normalized afterwards (MCLS, appendix B.2).
    """

    pooling: str
    normalize: bool
    sparse: tuple[torch.Tensor, torch.Tensor] | None
    multivector: tuple[torch.Tensor, torch.Tensor] | None
    special_ids: frozenset[int]
    mcls: int | None = None

    @out_of_memory_named()
    @torch.inference_mode()
    def apply(self, states: torch.Tensor, pack: Pack, groups: Sequence[Group]) -> list[PackOutput]:
        """What each group of a pack's texts wants, from the hidden states `(tokens, hidden)` of the pack.

        Raises:
            OutOfMemory: the pack is too large for the device.
        """
        outputs = []
        text = token = 0
        for group in groups:
            lengths = pack.lengths[text : text + group.texts]
            text, first, token = text + group.texts, token, token + int(lengths.sum())
            outputs.append(self._apply(states[first:token], Pack(pack.token_ids[first:token], lengths), group))
        return outputs

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
        weights: FloatArray = linear(states.float(), *self.sparse).relu()[:, 0].cpu().numpy()
        weights[np.isin(token_ids, list(self.special_ids))] = 0.0
        return weights

    def _own_weights(self, weights: FloatArray, pack: Pack) -> list[FloatArray]:
        kept, lengths = self._kept(pack)
        return _split(weights[kept], lengths)

    def _dense(self, states: torch.Tensor, pack: Pack) -> FloatArray:
        if self.pooling == "cls":
            places, counts = self._cls(pack)
            pooled = states[torch.from_numpy(places).to(states.device)].float()
            if len(places) > len(counts):
                pooled = torch.stack([text.mean(0) for text in pooled.split(counts.tolist())])
        else:
            pooled = torch.stack([text.mean(0) for text in states.float().split(pack.lengths.tolist())])
        vectors: FloatArray = (normalize(pooled, dim=-1) if self.normalize else pooled).cpu().numpy()
        return vectors

    def _multivectors(self, states: torch.Tensor, pack: Pack) -> list[FloatArray]:
        assert self.multivector is not None
        kept, lengths = self._kept(pack)  # <s> has no row, </s> has one
        rows = linear(states[torch.from_numpy(kept).to(states.device)], *self.multivector)
        return _split(normalize(rows.float(), dim=-1).cpu().numpy(), lengths)


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
