"""`TrainableModel`: the packed forward pass and the heads of inference, with gradients."""

import numpy as np
import torch

from m3core.backbones import Linear
from m3core.backbones.kernels import attend_with, choose_kernel
from m3core.backbones.transfer import upload
from m3core.checkpoint import Checkpoint
from m3core.packing import Pack
from m3core.train.scores import Embedded
from m3core.weights import load_body, load_heads


class TrainableModel(torch.nn.Module):
    """A checkpoint whose weights are parameters: `body`, transformers' model, and the heads that it has.

    Attributes:
        body: as `load_body` loads it.
        sparse_linear: gives each token's lexical weight, or `None`.
        colbert_linear: gives each token's row of a multi-vector, or `None`. Both are named as in FlagEmbedding's files.
        dense_linear: what pooled vectors go through, or `None`.
    """

    def __init__(
        self, checkpoint: Checkpoint, special_ids: frozenset[int], device: torch.device, attention: str = "auto"
    ) -> None:
        """Loads a checkpoint in float32.

        Args:
            checkpoint: the model.
            special_ids: the tokenizer's ids that never count lexically.
            device: where to train.
            attention: as of `M3Encoder`.

        Raises:
            InvalidInput: the attention kernel cannot serve.
            InvalidModel: as `load_body` and `load_heads`.
        """
        super().__init__()
        self._attention = choose_kernel(attention, device, torch.float32, checkpoint.head_dim)
        self._device = device
        self.body = load_body(checkpoint, torch.float32, device)
        self._heads = load_heads(checkpoint, self._linear, torch.float32, special_ids, True, None)
        self._padding = checkpoint.position_padding
        self.sparse_linear = _module(self._heads.sparse)
        self.colbert_linear = _module(self._heads.multivector)
        self.dense_linear = _module(self._heads.projection)

    def _linear(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        layer = torch.nn.Linear(weight.shape[1], len(weight), bias=bias is not None, device=self._device)
        layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
        return Linear(len(weight), layer)

    def forward(self, pack: Pack) -> Embedded:
        """What the model makes of texts by each mode that it has; gradients flow to its parameters."""
        placed = upload(np.stack([pack.token_ids, pack.positions(self._padding)]), self._device)
        attend = attend_with(self._attention, pack, self._device)
        states = self.body(input_ids=placed[:1], position_ids=placed[1:], attend=attend).last_hidden_state[0]
        weights = rows = None
        if self._heads.sparse is not None:
            counts = upload(self._heads.counts(pack.token_ids), self._device)
            weights = self._heads.token_weights(states, pack.lengths) * counts
        if self._heads.multivector is not None:
            behind = np.ones(len(pack.token_ids), bool)
            behind[pack.starts] = False
            rows = self._heads.multivectors(states[upload(behind, self._device)], pack.lengths - 1)
        return Embedded(placed[0], tuple(pack.lengths.tolist()), self._heads.dense(states, pack.lengths), weights, rows)


def _module(layer: Linear | None) -> torch.nn.Module | None:
    if layer is None:
        return None
    assert isinstance(layer.apply, torch.nn.Module)
    return layer.apply
