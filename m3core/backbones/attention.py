"""Attention within each text of a pack, registered with transformers under the name `m3_packed`.

transformers calls it in place of its own attention; no modelling code of ours is needed, and no mask is ever built.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from m3core.packing import Pack

NAME = "m3_packed"


@dataclass(frozen=True, eq=False)
class Segments:
    """Where the texts of a pack lie.

    Attributes:
        runs: `(start, texts, length)` for each run of neighbouring texts of one length.
        offsets: `(n + 1,)` int32 on the device where the varlen kernel is used, else `None`.
        longest: the longest text.
    """

    runs: list[tuple[int, int, int]]
    offsets: torch.Tensor | None
    longest: int

    @classmethod
    def of(cls, pack: Pack, device: torch.device, dtype: torch.dtype, head_dim: int) -> "Segments":
        """The segments of `pack`, for the best kernel that `device` and `dtype` have."""
        lengths = pack.lengths.tolist()
        offsets = None
        if has_varlen_kernel(device, dtype, head_dim):
            ends = torch.from_numpy(pack.lengths).cumsum(0).to(torch.int32)
            offsets = torch.nn.functional.pad(ends, (1, 0)).to(device, non_blocking=True)
        runs, start = [], 0
        for length, group in groupby(lengths):
            texts = sum(1 for _ in group)
            runs.append((start, texts, length))
            start += texts * length
        return cls(runs, offsets, max(lengths))


def has_varlen_kernel(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether `torch.nn.attention.varlen` can serve: a CUDA card from Ampere on, half precision, a usual head size."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and head_dim % 8 == 0
        and head_dim <= 256
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    segments: Segments,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Each text attends to itself only.

    Args:
        module: the attention module; not used.
        query: `(1, heads, tokens, head_dim)`, as are `key` and `value`.
        key: see `query`.
        value: see `query`.
        attention_mask: always `None`; `segments` says the same without a matrix.
        segments: where the texts lie.
        scaling: what dot products are multiplied by; `None` is head_dim^-0.5.

    Returns:
        `(1, tokens, heads, head_dim)`, and no attention weights.
    """
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # (tokens, heads, head_dim), as they lie in memory
    if segments.offsets is not None:
        from torch.nn.attention.varlen import varlen_attn

        cut, longest = segments.offsets, segments.longest
        out = varlen_attn(q, k, v, cut, cut, longest, longest, scale=scaling)
        assert isinstance(out, torch.Tensor)  # a pair only if auxiliary results are asked for
        return out[None], None
    out = torch.empty_like(q)
    for start, texts, length in segments.runs:
        rows = slice(start, start + texts * length)
        parts = [x[rows].view(texts, length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v)]
        attended = scaled_dot_product_attention(parts[0], parts[1], parts[2], scale=scaling)
        out[rows] = attended.transpose(1, 2).flatten(0, 1)
    return out[None], None


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, lambda *_, **__: None)
