"""Linear layers whose weights lie as oneDNN's matrix product reads them, for CPUs.

torch's own layers reorder their weights at every call, which for a short query takes as long as the product.
"""

import platform

import torch
from transformers.activations import GELUActivation

from m3core.backbones.engines import X86

_ROWS = 512  # that the layout is made for; it serves any number


class PackedLinear(torch.nn.Module):
    """A linear layer, and GELU behind it if wanted, in one step."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, *, gelu: bool = False) -> None:
        """Takes `(n, k)` weights and `(n,)` biases, if there are any, of the same dtype."""
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        self._bias = bias
        self._then: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """`(…, k)` in, `(…, n)` out."""
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, *self._then)
        return made


def can_pack(weight: torch.Tensor) -> bool:
    """Whether oneDNN serves such weights here."""
    if weight.device.type != "cpu" or platform.machine() not in X86 or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


@torch.inference_mode()
def pack_linears(model: torch.nn.Module) -> None:
    """Puts packed layers in place of a model's, one by one, where they can be; no two copies of all are in memory."""
    for parent in [module for module in model.modules() if not isinstance(module, torch.nn.Linear)]:
        for name, layer in list(parent.named_children()):
            if isinstance(layer, torch.nn.Linear) and can_pack(layer.weight):
                gelu = isinstance(getattr(parent, "intermediate_act_fn", None), GELUActivation)
                setattr(parent, name, PackedLinear(layer.weight, layer.bias, gelu=gelu))
                if gelu:
                    parent.intermediate_act_fn = torch.nn.Identity()
