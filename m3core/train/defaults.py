"""What training takes where nobody says otherwise, by the size of the model and the machine."""

import torch

from m3core.train.model import TrainableModel

_BYTES_KEPT = 34  # values that a layer keeps of a token for its gradients, per hidden unit, about
_CPU_BYTES, _SHARE = 2 << 30, 0.4  # for them; on an accelerator a share of its free memory
_LEAST, _MOST = 512, 16384

_RATES = ((80e6, 5e-5), (200e6, 3e-5), (float("inf"), 1e-5))  # of models of up to so many parameters
_HEADS_RATE = 1e-3  # of heads that are new, or trained alone
_FEW_RATE = 10  # times as much where few parameters are trained: adapters, or biases and layer norms
TEMPERATURES = {True: 0.02, False: 0.05}
"""With several modes BGE-M3's; with dense alone uniem's, by which m3e was trained."""


def learning_rate(model: TrainableModel) -> float:
    """For the body: the smaller the model, or the part of it that is trained, the higher."""
    size = sum(parameter.numel() for parameter in model.body.parameters())
    trained = sum(parameter.numel() for parameter in model.body.parameters() if parameter.requires_grad)
    rate = next(rate for most, rate in _RATES if size <= most)
    return rate * (_FEW_RATE if trained < 0.1 * size else 1)


def head_rate(model: TrainableModel, rate: float, *, new: bool) -> float:
    """For heads and projection."""
    return max(rate, _HEADS_RATE) if new or model.frozen_body else rate


def tokens_at_once(model: TrainableModel) -> int:
    """How many tokens go through the model at once, by what their gradients need; it halves if that is too much."""
    hidden, layers = model.shape
    space = _CPU_BYTES
    if model.device.type == "cuda":
        space = int(torch.cuda.mem_get_info(model.device)[0] * _SHARE)
    return int(min(_MOST, max(_LEAST, space // (_BYTES_KEPT * hidden * layers * 4))))
