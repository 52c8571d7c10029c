"""`TrainableModel`: the packed forward pass and the heads of inference, with gradients."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch

from m3core.backbones import Linear
from m3core.backbones.kernels import choose_kernel, model_inputs
from m3core.backbones.transfer import upload
from m3core.checkpoint import Checkpoint
from m3core.heads import lexical_vectors
from m3core.output import M3Output, Mode
from m3core.packing import IntArray, Pack, cut
from m3core.train.caching import joined, packs_of
from m3core.train.scores import Embedded
from m3core.weights import load_body, load_heads

_FIRST_WEIGHT = 0.2  # of every token, by a new sparse head: it begins as plain lexical overlap


class TrainableModel(torch.nn.Module):
    """A checkpoint whose weights are parameters: `body`, transformers' model, and the heads that it has.

    Attributes:
        body: as `load_body` loads it.
        sparse_linear: gives each token's lexical weight, or `None`.
        colbert_linear: gives each token's row of a multi-vector, or `None`. Both are named as in FlagEmbedding's files.
        dense_linear: what pooled vectors go through, or `None`.
        device: where it is.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        special_ids: frozenset[int],
        device: torch.device,
        *,
        attention: str = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Loads a checkpoint, its weights in float32.

        Args:
            checkpoint: the model.
            special_ids: the tokenizer's ids that never count lexically.
            device: where to train.
            attention: as of `M3Encoder`.
            dtype: what the body computes in; bfloat16 is autocast's.

        Raises:
            InvalidInput: the attention kernel cannot serve.
            InvalidModel: as `load_body` and `load_heads`.
        """
        super().__init__()
        self._kernel = choose_kernel(attention, device, dtype, checkpoint.head_dim)
        self._dtype, self.device = dtype, device
        self.body: Any = load_body(checkpoint, torch.float32, device)
        self._layers = int(self.body.config.num_hidden_layers)
        self._heads = load_heads(checkpoint, self._linear, torch.float32, special_ids, True, None)
        self._padding, self._hidden = checkpoint.position_padding, checkpoint.hidden_size
        self.sparse_linear = _module(self._heads.sparse)
        self.colbert_linear = _module(self._heads.multivector)
        self.dense_linear = _module(self._heads.projection)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What it can represent a text as."""
        heads: dict[Mode, Linear | None] = {"sparse": self._heads.sparse, "multivector": self._heads.multivector}
        return ("dense", *(mode for mode, head in heads.items() if head is not None))

    @property
    def shape(self) -> tuple[int, int]:
        """The width of hidden states, and how many layers there are."""
        return self._hidden, self._layers

    @property
    def dense_width(self) -> int:
        """Of dense vectors."""
        return self._hidden if self._heads.projection is None else self._heads.projection.width

    @property
    def rows_width(self) -> int | None:
        """Of the rows of multi-vectors, if there are."""
        return None if self._heads.multivector is None else self._heads.multivector.width

    @property
    def frozen_body(self) -> bool:
        """Whether no parameter of the body is trained."""
        return not any(parameter.requires_grad for parameter in self.body.parameters())

    def add_sparse(self) -> None:
        """Adds a sparse head that gives all tokens the same weight."""
        head = self._linear(torch.zeros(1, self._hidden), torch.full((1,), _FIRST_WEIGHT))
        self._heads, self.sparse_linear = replace(self._heads, sparse=head), _module(head)

    @torch.no_grad()
    def add_multivector(self, width: int, texts: Sequence[IntArray], tokens: int) -> None:
        """Adds a multi-vector head: the directions in which the states of texts' tokens differ most (PCA).

        So few of them keep angles between states as well as can be.

        Args:
            width: of rows.
            texts: given by their token ids.
            tokens: how many go through the model at once.
        """
        self.eval()
        total = torch.zeros(self._hidden, dtype=torch.float64, device=self.device)
        squares, count = torch.outer(total, total), 0
        for pack in packs_of(sorted(texts, key=len), tokens):
            states = self.states(pack).double()
            total, squares, count = total + states.sum(0), squares + states.T @ states, count + len(states)
        covariance = squares / count - torch.outer(total / count, total / count)
        weight = torch.linalg.eigh(covariance).eigenvectors[:, -width:].T.flip(0).float().cpu()
        head = self._linear(weight.contiguous(), torch.zeros(width))
        self._heads, self.colbert_linear = replace(self._heads, multivector=head), _module(head)

    def add_projection(self) -> None:
        """Adds a projection that does nothing yet."""
        layer = self._linear(torch.eye(self._hidden), torch.zeros(self._hidden))
        self._heads, self.dense_linear = replace(self._heads, projection=layer), _module(layer)

    def checkpoint_gradients(self) -> None:
        """Lets each layer be computed again when its gradients are taken, and keep nothing for them before."""
        self.body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def merge_adapters(self) -> None:
        """Makes adapters part of the weights that they adapt, if there are any."""
        if hasattr(self.body, "merge_and_unload"):
            self.body = self.body.merge_and_unload()

    def _linear(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        layer = torch.nn.Linear(weight.shape[1], len(weight), bias=bias is not None, device=self.device)
        layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
        return Linear(len(weight), layer)

    def train(self, mode: bool = True) -> Self:
        """As torch's; a body that is not trained drops no units."""
        super().train(mode)
        if self.frozen_body:
            self.body.eval()
        return self

    def forward(self, pack: Pack) -> Embedded:
        """What the model makes of texts by each mode that it has; gradients flow to its parameters."""
        states = self.states(pack)
        weights = rows = None
        if self._heads.sparse is not None:
            counts = upload(self._heads.counts(pack.token_ids), self.device)
            weights = self._heads.token_weights(states, pack.lengths) * counts
        if self._heads.multivector is not None:
            behind = np.ones(len(pack.token_ids), bool)
            behind[pack.starts] = False
            rows = self._heads.multivectors(states[upload(behind, self.device)], pack.lengths - 1)
        token_ids = upload(pack.token_ids, self.device)
        return Embedded(token_ids, tuple(pack.lengths.tolist()), self._heads.dense(states, pack.lengths), weights, rows)

    def states(self, pack: Pack) -> torch.Tensor:
        """The hidden states `(tokens, hidden)`, in the dtype of the weights."""
        learns = torch.is_grad_enabled() and not self.frozen_body
        half = torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32)
        with torch.set_grad_enabled(learns), half:
            states = self.body(**model_inputs(pack, self._padding, self._kernel, self.device)).last_hidden_state[0]
        assert isinstance(states, torch.Tensor)
        return states if self._dtype == torch.float32 else states.float()

    @torch.no_grad()
    def represent(self, texts: Sequence[IntArray], tokens: int) -> M3Output:
        """The representations of texts, as an encoder gives them; dense vectors have unit length.

        Args:
            texts: given by their token ids.
            tokens: how many go through the model at once.
        """
        self.eval()
        order = np.argsort([len(text) for text in texts], kind="stable")
        made = joined([self(pack) for pack in packs_of([texts[i] for i in order], tokens)])
        lengths = np.array(made.lengths)
        back = np.argsort(order)
        sparse = rows = None
        if made.weights is not None:
            found = lexical_vectors(made.token_ids.cpu().numpy(), made.weights.cpu().numpy(), lengths)
            sparse = [found[i] for i in back]
        if made.rows is not None:
            by_text = cut(made.rows.cpu().numpy(), lengths - 1)
            rows = [by_text[i] for i in back]
        assert made.dense is not None
        return M3Output(made.dense.cpu().numpy()[back], sparse, rows)


def _module(layer: Linear | None) -> torch.nn.Module | None:
    if layer is None:
        return None
    assert isinstance(layer.apply, torch.nn.Module)
    return layer.apply
