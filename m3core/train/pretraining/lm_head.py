"""The head that guesses tokens from hidden states, as BERT's and XLM-R's, without anything of the vocabulary's size."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers.activations import get_activation

_NAMES = {  # ours: what checkpoints of masked language models call it
    "dense.weight": ("lm_head.dense.weight", "cls.predictions.transform.dense.weight"),
    "dense.bias": ("lm_head.dense.bias", "cls.predictions.transform.dense.bias"),
    "norm.weight": (
        "lm_head.layer_norm.weight",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.LayerNorm.gamma",
    ),
    "norm.bias": (
        "lm_head.layer_norm.bias",
        "cls.predictions.transform.LayerNorm.bias",
        "cls.predictions.transform.LayerNorm.beta",
    ),
    "bias": ("lm_head.bias", "cls.predictions.bias"),
}
_LOGITS = 1 << 26  # at once; 256 MiB in float32


class LmHead(torch.nn.Module):
    """A linear layer, an activation, a layer norm, and products with the word embeddings, which stay the body's.

    Attributes:
        dense: the linear layer.
        norm: the layer norm.
        bias: `(vocabulary,)` added to the products.
    """

    def __init__(self, width: int, vocabulary: int, *, activation: str, epsilon: float, spread: float) -> None:
        """A new head.

        Args:
            width: of hidden states.
            vocabulary: how many tokens there are.
            activation: transformers' name of it.
            epsilon: the layer norm's.
            spread: standard deviation of the new weights.
        """
        super().__init__()
        self.dense = torch.nn.Linear(width, width)
        self.norm = torch.nn.LayerNorm(width, eps=epsilon)
        self.bias = torch.nn.Parameter(torch.zeros(vocabulary))
        self._activation = get_activation(activation)
        torch.nn.init.normal_(self.dense.weight, std=spread)
        torch.nn.init.zeros_(self.dense.bias)

    def forward(self, states: torch.Tensor, token_ids: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy of tokens; 0 of none.

        So many go at once that their logits are no more than 256 MiB. Where they are more together, each part's are
        made a second time for the gradients: a third more work in this head.

        Args:
            states: `(tokens, width)` to guess them from.
            token_ids: `(tokens,)` what they are.
            words: `(vocabulary, width)` the word embeddings.
        """
        rows = max(1, _LOGITS // len(words))
        if len(token_ids) <= rows:
            return self._sum(states, token_ids, words) / max(1, len(token_ids))
        parts = zip(states.split(rows), token_ids.split(rows), strict=True)
        sums = [checkpoint(self._sum, part, ids, words, use_reentrant=False) for part, ids in parts]
        return torch.stack(sums).sum() / len(token_ids)

    def _sum(self, states: torch.Tensor, token_ids: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        made = self.norm(self._activation(self.dense(states)))
        return cross_entropy(torch.nn.functional.linear(made, words, self.bias), token_ids, reduction="sum")


def stored_lm_head(directory: Path) -> dict[str, torch.Tensor] | None:
    """The state of an `LmHead` from a checkpoint of a masked language model; `None` if it has none."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(directory.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            held = set(file.keys())
            found |= {name: file.get_tensor(own) for name, names in _NAMES.items() for own in names if own in held}
    if not found:
        for path in sorted(directory.glob("pytorch_model*.bin")):
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            found |= {name: tensors[own] for name, names in _NAMES.items() for own in names if own in tensors}
    return found if found.keys() == _NAMES.keys() else None
