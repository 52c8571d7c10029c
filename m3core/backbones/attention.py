"""Attention within each text of a pack, registered with transformers under the name `m3_packed`.

transformers calls it in place of its own attention; no modelling code of ours is needed, and no mask over a pack
is ever built.
"""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from m3core.backbones.kernels import Attend

NAME = "m3_packed"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    attend: Attend,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Each text attends to itself only.

    Args:
        module: the attention module; not used.
        query: `(1, heads, tokens, head_dim)`, as are `key` and `value`.
        key: see `query`.
        value: see `query`.
        attention_mask: always `None`; `attend` knows the texts without a matrix.
        attend: a kernel that knows where the pack's texts lie.
        scaling: what dot products are multiplied by; `None` is head_dim^-0.5.

    Returns:
        `(1, tokens, heads, head_dim)`, and no attention weights.
    """
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # (tokens, heads, head_dim), as they lie in memory
    return attend(q, k, v, scaling)[None], None


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, lambda *_, **__: None)
