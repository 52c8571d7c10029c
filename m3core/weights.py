"""Loading weights: the transformer body into transformers' own classes, and the heads. Nothing is unpickled.

transformers is imported where a body is loaded: that takes longer than to load int8 weights from their file, which need
none of it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from m3core.backbones import Linear
from m3core.backbones.memory import out_of_memory_named
from m3core.checkpoint import Checkpoint
from m3core.errors import InvalidModel
from m3core.heads import Heads
from m3core.parts import Activation, Head
from m3core.stored import Stored, StoredWords

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CLASSES = {"bert": "BertModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel"}
_FILE, _Q4_FILE = "model.safetensors", "model.q4.safetensors"
_WORDS = "embeddings.word_embeddings.weight"
_CHECKED = 1 << 22  # values at once
_LOADING = threading.Lock()

State = dict[str, torch.Tensor]
"""Weights by name."""


def load_body(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, *, words_stay: bool = False
) -> "PreTrainedModel":
    """The transformer with packed attention and without a pooler, in `dtype` on `device`.

    Args:
        checkpoint: the model.
        dtype: of its weights.
        device: where they are.
        words_stay: whether word embeddings that a file holds in another dtype stay there, as `StoredWords`; for CPUs,
            and for inference alone.

    Raises:
        InvalidModel: weights are missing, damaged, of the wrong shape, or not finite.
    """
    import transformers

    from m3core.backbones.attention import NAME as PACKED_ATTENTION

    model_class: Any = getattr(transformers, _CLASSES[checkpoint.model_type])  # from_pretrained's types say too little
    model: transformers.PreTrainedModel
    with quiet(), invalid_model_named(checkpoint.path), out_of_memory_named():
        config = model_class.config_class.from_pretrained(checkpoint.path)
        path: Path | None = checkpoint.path
        state = words = None
        if checkpoint.quantization is not None:
            path, state = None, _dequantized(checkpoint)
        elif (checkpoint.path / _FILE).is_file() and (stored := Stored(checkpoint.path / _FILE)).dtypes - {dtype}:
            path, words = None, _words(stored, config) if words_stay else None
            state = {name: stored.converted(name, dtype) for name in stored.shapes if name != words}
            if words is not None:  # a small table in place of it
                config.vocab_size = (config.pad_token_id or 0) + 1
                state[words] = torch.zeros(config.vocab_size, config.hidden_size, dtype=dtype)
        model, report = model_class.from_pretrained(
            path,
            config=config,
            state_dict=state,
            dtype=dtype,
            attn_implementation=PACKED_ATTENTION,
            add_pooling_layer=False,
            ignore_mismatched_sizes=True,  # reported, and refused below by name
            output_loading_info=True,
        )
    strays = {k for k in report["unexpected_keys"] if "encoder.layer." in k}
    wrong = {str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"]}
    for keys, what in (
        (set(report["missing_keys"]) - wrong, "lacks weights that its config.json asks for"),
        (wrong, "has weights of another shape than its config.json says"),
        (strays, "has weights that its config.json knows nothing of"),
    ):
        if keys:
            named = ", ".join(sorted(keys)[:3])
            raise InvalidModel(f"{checkpoint.path} {what} ({len(keys)}: {named}); fetch or save it again")
    for name, parameter in model.named_parameters():
        _check_finite(parameter, name, checkpoint.path)
    if words is not None:
        for _, values in stored.parts(words):
            _check_finite(values, words, checkpoint.path)
        model.config.vocab_size = stored.shapes[words][0]
        model.set_input_embeddings(StoredWords(stored.mapped(words), dtype))
    with out_of_memory_named():
        model.to(device)  # type: ignore[arg-type]  # its wrapper hides the overload that takes a device
    return model


def load_state(checkpoint: Checkpoint) -> State:
    """The weights of `load_body` in float32, by transformers' names. Raises as it does."""
    state: State = load_body(checkpoint, torch.float32, torch.device("cpu")).state_dict()
    return state


def fused(state: State) -> State:
    """Weights with the query, key and value layers of each attention in one, `attention.self.qkv`, in this order."""
    made: State = {}
    for name, values in state.items():
        if ".attention.self.query." in name:
            parts = [state[name.replace(".query.", f".{part}.")] for part in ("query", "key", "value")]
            made[name.replace(".query.", ".qkv.")] = torch.cat(parts)
        elif ".attention.self." not in name:
            made[name] = values
    return made


def load_heads(
    checkpoint: Checkpoint,
    linear: Callable[[torch.Tensor, torch.Tensor | None], Linear],
    dtype: torch.dtype,
    special_ids: frozenset[int],
    normalize: bool | None,
    mcls: int | None,
) -> Heads:
    """The model's heads, and its projection.

    Args:
        checkpoint: says which there are.
        linear: makes a layer that runs as the backbone does, as `Backbone.linear`.
        dtype: what the largest of them computes in.
        special_ids: token ids that never count lexically.
        normalize: whether dense vectors get unit length; `None` does as the checkpoint says.
        mcls: as of `Heads`.

    Raises:
        InvalidModel: a file is damaged, holds something else, or values that are not finite.
    """
    sparse = multivector = projection = None
    activation: Activation = "identity"
    hidden = checkpoint.hidden_size
    if "sparse" in checkpoint.heads:
        sparse = linear(*_load_linear(checkpoint.heads["sparse"], hidden, 1))
    if "multivector" in checkpoint.heads:
        head = checkpoint.heads["multivector"]
        multivector = linear(*_load_linear(head, hidden, checkpoint.multivector_dim, dtype=dtype))
    if (found := checkpoint.projection) is not None:
        projection = linear(*_load_linear(found.linear, hidden, found.width, bias=found.bias))
        activation = found.activation
    unit_length = checkpoint.normalize if normalize is None else normalize
    return Heads(checkpoint.pooling, unit_length, sparse, multivector, special_ids, mcls, projection, activation)


def _load_linear(
    head: Head, width: int, outputs: int | None, *, dtype: torch.dtype = torch.float32, bias: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A weight `(outputs, width)` and a bias `(outputs,)`, or `None` where there has to be none."""
    with invalid_model_named(head.path):
        if head.path.suffix == ".safetensors":
            stored = load_file(head.path)
        else:
            stored = torch.load(head.path, map_location="cpu", weights_only=True)
        weight = stored[head.prefix + "weight"].float()
        added = stored[head.prefix + "bias"].float() if bias else None
        if not bias and head.prefix + "bias" in stored:
            raise InvalidModel(f"{head.path} has a bias, but the config.json beside it says that there is none")
    if (
        weight.ndim != 2
        or weight.shape[1] != width
        or outputs not in (None, len(weight))
        or (added is not None and added.shape != weight.shape[:1])
    ):
        held, wanted = f"a weight {tuple(weight.shape)}", f"({outputs or 'd'}, {width})"
        if added is not None:
            held, wanted = f"{held} and a bias {tuple(added.shape)}", f"{wanted} and ({outputs or 'd'},)"
        raise InvalidModel(f"{head.path} has {held}; expected are {wanted}")
    _check_finite(weight, head.prefix + "weight", head.path)
    if added is not None:
        _check_finite(added, head.prefix + "bias", head.path)
    return weight.to(dtype), None if added is None else added.to(dtype)


def dequantize_q4(nibbles: npt.NDArray[np.uint8], scales: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Weights from blocks of 32: w = (nibble − 8) · scale.

    Args:
        nibbles: `(rows, blocks, 16)` uint8; low nibbles are a block's columns 0–15, high ones its columns 16–31.
        scales: `(rows, blocks)` float16.

    Returns:
        `(rows, blocks · 32)` float32.
    """
    weights = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.float32)
    weights -= 8
    weights *= scales.astype(np.float32)[..., None]
    flat: npt.NDArray[np.float32] = weights.reshape(len(weights), -1)
    return flat


def _dequantized(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    if checkpoint.quantization != "q4-block32":
        raise InvalidModel(f"{checkpoint.path}: unknown quantization {checkpoint.quantization!r}")
    state = {}
    with safe_open(checkpoint.path / _Q4_FILE, "np") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            stem, _, kind = name.rpartition(".")
            if kind == "q4":
                state[stem] = torch.from_numpy(dequantize_q4(file.get_tensor(name), file.get_tensor(f"{stem}.scale")))
            elif kind != "scale":
                state[name] = torch.from_numpy(file.get_tensor(name).astype(np.float32))
    return state


def _words(stored: Stored, config: Any) -> str | None:
    """The name of the word embeddings, if they are of the shape that the model asks for."""
    shape = (config.vocab_size, config.hidden_size)
    return next((n for n, held in stored.shapes.items() if n.endswith(_WORDS) and held == shape), None)


def _check_finite(values: torch.Tensor, name: str, path: Path) -> None:
    parts = values.detach().flatten().split(_CHECKED)  # a sum of all in float32 would make a copy first
    if not all(torch.isfinite(part.sum(dtype=torch.float32)) for part in parts):
        raise InvalidModel(f"{path} holds NaN or infinite values in {name}; it is damaged, or training diverged")


@contextmanager
def invalid_model_named(path: Path) -> Iterator[None]:
    """Whatever libraries below raise for damaged files becomes one named error."""
    try:
        yield
    except (InvalidModel, MemoryError):
        raise
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise InvalidModel(f"{path} cannot be loaded: {reason}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers' own progress bars and reports, off while we load; we report what is wrong ourselves."""
    from transformers.utils import logging

    with _LOADING:  # the settings are the process's, so one thread at a time
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
