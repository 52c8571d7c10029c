"""Which device, which engine on it, and what it computes in."""

import platform
from importlib.util import find_spec

import torch

from m3core.checkpoint import Checkpoint
from m3core.errors import InvalidInput, MissingDependency

ENGINES = ("torch", "openvino")
ACTIVATIONS = ("gelu", "relu")  # of those that transformers knows, the ones that BERT and XLM-R come with
X86 = ("x86_64", "AMD64")  # the processors that OpenVINO and oneDNN were found to be faster on


def choose_device(device: str | None) -> torch.device:
    """The device asked for, or else the best one there is.

    Raises:
        InvalidInput: torch knows no such device, or cannot use it here.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InvalidInput(
            f"device {device!r} cannot be used here: {str(error).splitlines()[0]}; "
            "pass device=None for the best one there is, or 'cpu'"
        ) from error
    return chosen


def choose_engine(engine: str, attention: str, device: torch.device, checkpoint: Checkpoint) -> str:
    """The engine asked for; `"auto"` is OpenVINO for a CPU where it is installed, else torch.

    Raises:
        InvalidInput: another name, or OpenVINO for what it does not serve here: a device, a model, an attention kernel.
        MissingDependency: OpenVINO is not installed.
    """
    if engine not in ("auto", *ENGINES):
        raise InvalidInput(f"engine must be 'auto', {' or '.join(map(repr, ENGINES))}, not {engine!r}")
    installed = find_spec("openvino") is not None
    served = device.type == "cpu" and checkpoint.activation in ACTIVATIONS and attention == "auto"
    if engine == "auto":
        return "openvino" if installed and served and platform.machine() in X86 else "torch"
    if engine == "openvino":
        if not served:
            what = f"attention={attention!r}" if attention != "auto" else f"activation {checkpoint.activation!r}"
            what = what if device.type == "cpu" else f"device {device}"
            raise InvalidInput(f"engine='openvino' does not serve {what}; pass engine='torch', or device='cpu'")
        if not installed:
            raise MissingDependency("engine='openvino' needs openvino: pip install 'm3-retrieval[openvino]'")
    return engine


def choose_dtype(dtype: str, device: torch.device, engine: str) -> str:
    """The type asked for; `"auto"` is bfloat16 where the device computes in it, else float32.

    Raises:
        InvalidInput: another name, or int8 for another engine than OpenVINO.
    """
    names = ("float32", "bfloat16", "int8")
    if dtype not in ("auto", *names):
        raise InvalidInput(f"dtype must be 'auto', {', '.join(map(repr, names[:-1]))} or {names[-1]!r}, not {dtype!r}")
    if dtype == "int8" and engine != "openvino":
        raise InvalidInput(
            "dtype='int8' needs the OpenVINO engine: pip install 'm3-retrieval[openvino]', and pass device='cpu' and "
            "engine='auto' or 'openvino'"
        )
    return best_float(device) if dtype == "auto" else dtype


def best_float(device: torch.device) -> str:
    """`"bfloat16"` where the device computes in it, else `"float32"`."""
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        features = torch.cpu.get_capabilities()
        fast = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    else:
        fast = False
    return "bfloat16" if fast else "float32"
