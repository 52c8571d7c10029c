"""The heads: dense vectors, lexical weights and multi-vectors from packed hidden states. The only place for them.

Semantics are FlagEmbedding's (BGE-M3, arXiv 2402.03216, section 3.2), computed on packed tokens, never on padding, and
without a tensor of the vocabulary's size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from m3core.backbones import Linear
from m3core.backbones.memory import out_of_memory_named
from m3core.backbones.transfer import download, upload
from m3core.output import FloatArray, SparseVector
from m3core.packing import Group, IntArray, Pack, PackOutput, cut
from m3core.parts import Activation


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
        projection: the layer that pooled vectors go through, `(n, d)` float32, or `None`.
        activation: what they go through behind it.
    """

    pooling: str
    normalize: bool
    sparse: Linear | None
    multivector: Linear | None
    special_ids: frozenset[int]
    mcls: int | None = None
    projection: Linear | None = None
    activation: Activation = "identity"

    @out_of_memory_named()
    @torch.inference_mode()
    def apply(self, states: torch.Tensor, pack: Pack, groups: Sequence[Group]) -> Callable[[], list[PackOutput]]:
        """Makes what each group of a pack's texts wants, from the hidden states `(tokens, hidden)` of the pack.

        A representation is made of all the texts that want it together, and comes from the device in one copy.

        Returns:
            What waits until all of it is there, and gives it.

        Raises:
            OutOfMemory: the pack is too large for the device; also when waiting.
        """
        parts = pack.split([group.texts for group in groups])
        pieces = states.split([len(part.token_ids) for part in parts])
        makers = {"dense": self.dense, "weights": self.token_weights, "multivector": self.multivectors}
        made: list[tuple[str, list[int]]] = []
        tensors: list[torch.Tensor] = []
        for what, make in makers.items():
            wanted = [i for i, group in enumerate(groups) if _wants(group, what)]
            if wanted:
                every = len(wanted) == len(groups)
                lengths = pack.lengths if every else np.concatenate([parts[i].lengths for i in wanted])
                tensors.append(make(states if every else torch.cat([pieces[i] for i in wanted]), lengths))
                made.append((what, wanted))
        return partial(self._outputs, groups, parts, made, download(tensors))

    def _outputs(
        self,
        groups: Sequence[Group],
        parts: Sequence[Pack],
        made: Sequence[tuple[str, list[int]]],
        arrived: Callable[[], list[FloatArray]],
    ) -> list[PackOutput]:
        """What each group gets of what was made, each time for those groups that are named with it."""
        rows: list[dict[str, FloatArray]] = [{} for _ in groups]
        for (what, wanted), array in zip(made, arrived(), strict=True):
            sizes = [len(parts[i].lengths if what == "dense" else parts[i].token_ids) for i in wanted]
            for i, own in zip(wanted, cut(array, sizes), strict=True):
                rows[i][what] = own
        return [self._output(group, part, own) for group, part, own in zip(groups, parts, rows, strict=True)]

    def _output(self, group: Group, pack: Pack, rows: dict[str, FloatArray]) -> PackOutput:
        sparse = multivector = weights = None
        if "weights" in rows:
            kept = np.where(self.counts(pack.token_ids), rows["weights"], np.float32(0))
            sparse = lexical_vectors(pack.token_ids, kept, pack.lengths) if "sparse" in group.wants else None
            weights = self._without_cls(kept, pack.lengths) if "weights" in group.wants else None
        if "multivector" in rows:
            multivector = self._without_cls(rows["multivector"], pack.lengths)  # </s> has a row
        return PackOutput(rows.get("dense"), sparse, multivector, weights)

    def counts(self, token_ids: IntArray) -> npt.NDArray[np.bool_]:
        """Which tokens count lexically, `(tokens,)`."""
        return ~np.isin(token_ids, list(self.special_ids))

    def _cls(self, lengths: IntArray) -> tuple[IntArray, IntArray]:
        """Where CLS tokens are, in the order of the texts, and how many each text has.

        Counted as in `TokenizedTexts`, not looked up by their id, which a text can spell out itself.
        """
        starts = np.cumsum(lengths) - lengths
        if self.mcls is None:
            return starts, np.ones_like(lengths)
        step = self.mcls + 1
        counts = 1 + (lengths - 2) // step
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(starts, counts) + nth * step, counts

    def _without_cls(self, rows: FloatArray, lengths: IntArray) -> list[FloatArray]:
        """The rows of each text's other tokens."""
        if self.mcls is None:
            return [text[1:] for text in cut(rows, lengths)]
        places, counts = self._cls(lengths)
        return cut(np.delete(rows, places, axis=0), lengths - counts)

    def dense(self, states: torch.Tensor, lengths: IntArray) -> torch.Tensor:
        """`(n, hidden)` float32, or as wide as the projection is."""
        pooled = states
        if self.pooling == "cls":
            places, lengths = self._cls(lengths)
            pooled = states.index_select(0, upload(places, states.device))
        pooled = _means(pooled.float(), lengths)
        if self.projection is not None:
            pooled = self.projection.apply(pooled)
            pooled = pooled.tanh() if self.activation == "tanh" else pooled
        return normalize(pooled, dim=-1) if self.normalize else pooled

    def token_weights(self, states: torch.Tensor, lengths: IntArray) -> torch.Tensor:
        """The lexical weight of each token, `(tokens,)` float32: ReLU of the sparse head, also for special tokens."""
        assert self.sparse is not None
        return self.sparse.apply(states).relu()[:, 0]

    def multivectors(self, states: torch.Tensor, lengths: IntArray) -> torch.Tensor:
        """`(tokens, d)` of unit length.

        In float16 if they come from an accelerator that computes in half precision: half as much to bring down.
        """
        assert self.multivector is not None
        rows = normalize(self.multivector.apply(states).float(), dim=-1)
        return rows if states.device.type == "cpu" or states.dtype == torch.float32 else rows.half()


def _means(rows: torch.Tensor, counts: IntArray) -> torch.Tensor:
    """The mean of so many neighbouring rows each, `(n, width)`."""
    if len(counts) == len(rows):
        return rows
    if len(counts) == 1:
        return rows.mean(0, keepdim=True)
    which = upload(np.repeat(np.arange(len(counts)), counts), rows.device)
    sums = torch.zeros(len(counts), rows.shape[1], device=rows.device).index_add_(0, which, rows)
    return sums / upload(counts, rows.device)[:, None]


def _wants(group: Group, what: str) -> bool:
    return what in group.wants or (what == "weights" and "sparse" in group.wants)


def lexical_vectors(token_ids: IntArray, weights: FloatArray, lengths: IntArray) -> list[SparseVector]:
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
    kept = np.bincount(text[first], minlength=len(lengths))
    return [
        SparseVector(i.copy(), v.copy())  # a view would keep those of all other calls in the pack
        for i, v in zip(cut(ids[first].astype(np.int32), kept), cut(values, kept), strict=True)
    ]
