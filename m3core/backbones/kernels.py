"""The kernels that attend within each text of a pack, and which of them a device has. They differ in rounding."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from m3core.backbones.transfer import upload
from m3core.errors import InvalidInput
from m3core.packing import IntArray, Pack

KERNELS = ("varlen", "flash", "padded", "sdpa")

_AMPERE = (8, 0)
_WIDEST_HEAD = 256
_PADDING = 0.2  # of a block's rows
_PADDING_ROWS = 256  # less is not worth a block of its own
_SCORES = 1 << 28  # at once; 1 GiB in float32


class Attend(Protocol):
    """Attention within each text of one pack."""

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """What each token attends to, `(tokens, heads, head_dim)`.

        Args:
            query: `(tokens, heads, head_dim)`, as are `key` and `value`.
            key: see `query`.
            value: see `query`.
            scaling: what dot products are multiplied by; `None` is head_dim^-0.5.
        """
        ...


def choose_kernel(asked: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> str:
    """The kernel asked for; `"auto"` is the first of `KERNELS` that can serve, and `"sdpa"` on a CPU.

    Raises:
        InvalidInput: no such kernel, or it cannot serve.
    """
    if asked == "auto":
        if device.type == "cpu":
            return "sdpa"
        return next(kernel for kernel in KERNELS if _hindrance(kernel, device, dtype, head_dim) is None)
    if asked not in KERNELS:
        raise InvalidInput(f"attention must be 'auto', {' or '.join(map(repr, KERNELS))}, not {asked!r}")
    if hindrance := _hindrance(asked, device, dtype, head_dim):
        raise InvalidInput(f"attention={asked!r} {hindrance}, or pass attention='auto' for the best that there is")
    return asked


def _hindrance(kernel: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Why a kernel cannot serve, and what to pass; `None` if it can."""
    if kernel in ("padded", "sdpa"):
        return None
    if device.type != "cuda":
        return f"runs on CUDA, not on {device}; pass device='cuda'"
    if torch.cuda.get_device_capability(device) < _AMPERE:
        name = torch.cuda.get_device_name(device)
        return f"runs on cards from Ampere on, which {name} is not; pass attention='padded'"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"computes in half precision, not in {str(dtype).removeprefix('torch.')}; pass dtype='bfloat16'"
    if head_dim % 8 or head_dim > _WIDEST_HEAD:
        return f"has no heads {head_dim} wide, as this model's; pass attention='padded'"
    if kernel == "varlen" and not torch.backends.cuda.is_flash_attention_available():
        return "is missing in this build of torch; pass attention='padded'"
    if kernel == "flash" and _flash() is None:
        return "needs the package flash-attn in a build for this torch; install it"
    return None


def _flash() -> Callable[..., Any] | None:
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError:  # not installed, or built for another torch
        return None
    function: Callable[..., Any] = flash_attn_varlen_func
    return function


def model_inputs(pack: Pack, padding_id: int | None, kernel: str, device: torch.device) -> dict[str, Any]:
    """What transformers' model is called with for a pack, in one row.

    Args:
        pack: the texts.
        padding_id: as of `Pack.positions`.
        kernel: as `choose_kernel` gave it.
        device: of the model.
    """
    rows = upload(np.stack([pack.token_ids, pack.positions(padding_id)]), device)
    return {"input_ids": rows[:1], "position_ids": rows[1:], "attend": attend_with(kernel, pack, device)}


def attend_with(kernel: str, pack: Pack, device: torch.device) -> Attend:
    """A kernel of `KERNELS` for one pack: what it must know of the texts' places lies on the device then."""
    if kernel == "padded":
        return Padded.of(pack, device)
    if kernel == "sdpa":
        return Runs.of(pack)
    return Offsets.of(pack, device, kernel)


@dataclass(frozen=True, eq=False)
class Offsets:
    """One call for all texts, to a kernel that is told where they lie: torch's own, or the flash-attn package's.

    Attributes:
        kernel: `"varlen"` or `"flash"`.
        offsets: `(n + 1,)` int32: where each text begins, and where the last one ends.
        longest: the longest text.
    """

    kernel: str
    offsets: torch.Tensor
    longest: int

    @classmethod
    def of(cls, pack: Pack, device: torch.device, kernel: str) -> "Offsets":
        """For a pack."""
        offsets = np.append(pack.starts, len(pack.token_ids)).astype(np.int32)
        return cls(kernel, upload(offsets, device), int(pack.lengths.max()))

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """See `Attend`."""
        places = (self.offsets, self.offsets, self.longest, self.longest)
        if self.kernel == "varlen":
            from torch.nn.attention.varlen import varlen_attn

            out = varlen_attn(query, key, value, *places, scale=scaling)
        else:
            flash = _flash()
            assert flash is not None
            out = flash(query, key, value, *places, softmax_scale=scaling)
        assert isinstance(out, torch.Tensor)  # a pair only if auxiliary results are asked for
        return out


@dataclass(frozen=True, eq=False)
class Runs:
    """SDPA for each run of neighbours of one length: no padding, many calls.

    Attributes:
        runs: `(texts, length)` each.
    """

    runs: list[tuple[int, int]]

    @classmethod
    def of(cls, pack: Pack) -> "Runs":
        """For a pack."""
        return cls([(sum(1 for _ in group), length) for length, group in groupby(pack.lengths.tolist())])

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """See `Attend`."""
        if query.device.type == "cpu" and query.requires_grad and query.dtype.itemsize < torch.float32.itemsize:
            with torch.autocast("cpu", enabled=False):  # a CPU's gradients in half precision take far longer
                return self(query.float(), key.float(), value.float(), scaling).to(query.dtype)
        rows = [x.split([texts * length for texts, length in self.runs]) for x in (query, key, value)]
        parts = []
        for (texts, length), *run in zip(self.runs, *rows, strict=True):
            q, k, v = (x.unflatten(0, (texts, length)).transpose(1, 2) for x in run)
            parts.append(scaled_dot_product_attention(q, k, v, scale=scaling).transpose(1, 2).flatten(0, 1))
        return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class Padded:
    """SDPA for blocks of texts of similar lengths, padded within attention only: few calls, for any accelerator.

    Padding is a fifth of a block's rows at most, or so few that another block would cost more. Queries go by turns
    where a block would have too many scores, as some devices hold all of them in memory.

    Attributes:
        blocks: `(texts, longest)` each, the longest texts first.
        gather: `(rows,)` which token of the pack is in each row of the blocks; a text's last one stands for padding.
        scatter: `(tokens,)` in which row each token of the pack is.
        real: `(rows,)` whether a row is no padding; `None` where no block has any.
    """

    blocks: list[tuple[int, int]]
    gather: torch.Tensor
    scatter: torch.Tensor
    real: torch.Tensor | None

    @classmethod
    def of(cls, pack: Pack, device: torch.device) -> "Padded":
        """For a pack."""
        order = np.argsort(-pack.lengths, kind="stable")
        lengths = pack.lengths[order]
        blocks = list(_blocks(lengths))
        widths = np.repeat([longest for _, longest in blocks], [texts for texts, _ in blocks])
        firsts = np.cumsum(widths) - widths  # row of each text, in `order`
        place = np.arange(widths.sum()) - np.repeat(firsts, widths)
        real = place < np.repeat(lengths, widths)
        gather = np.repeat(pack.starts[order], widths) + np.minimum(place, np.repeat(lengths, widths) - 1)
        scatter = np.empty(len(pack.token_ids), dtype=np.int64)
        scatter[gather[real]] = np.flatnonzero(real)
        mask = None if real.all() else upload(real, device)
        return cls(blocks, upload(gather, device), upload(scatter, device), mask)

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """See `Attend`."""
        rows = [x.index_select(0, self.gather) for x in (query, key, value)]
        parts, start = [], 0
        for texts, longest in self.blocks:
            block = slice(start, start := start + texts * longest)
            q, k, v = (x[block].unflatten(0, (texts, longest)).transpose(1, 2) for x in rows)
            mask = None if self.real is None else self.real[block].view(texts, 1, 1, longest)
            turn = max(1, _SCORES // (texts * q.shape[1] * longest))
            attended = [scaled_dot_product_attention(part, k, v, mask, scale=scaling) for part in q.split(turn, dim=2)]
            parts += [torch.cat(attended, dim=2).transpose(1, 2).flatten(0, 1)]
        return torch.cat(parts).index_select(0, self.scatter)


def _blocks(lengths: IntArray) -> Iterator[tuple[int, int]]:
    """How many of some texts, the longest of which come first, to put side by side, and how long they are then."""
    first = 0
    while first < len(lengths):
        longest = int(lengths[first])
        rows = longest * np.arange(1, len(lengths) - first + 1)
        padding = rows - np.cumsum(lengths[first:])
        fits = padding <= np.maximum(_PADDING * rows, _PADDING_ROWS)
        texts = len(fits) if fits.all() else int(fits.argmin())
        yield texts, longest
        first += texts
