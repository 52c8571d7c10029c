"""The OpenVINO backbone, for CPUs: packed tokens through a graph of our own, in float32, bfloat16 or int8."""

from collections.abc import Callable, Iterator

import numpy as np
import openvino as ov
import torch
from openvino.properties import hint, inference_num_threads

from m3core.backbones import Linear
from m3core.backbones.engines import best_float
from m3core.backbones.graph import encoder_graph, linear_graph
from m3core.backbones.memory import out_of_memory_named
from m3core.checkpoint import Checkpoint
from m3core.output import FloatArray
from m3core.packing import IntArray, Pack
from m3core.quantizing import int8_state
from m3core.weights import fused, load_state

_PIECE = 256  # tokens; the matrix products get no faster with more of them, and attention between texts costs more
_FAR = np.float32(-1e9)
_MOST_IN_GROUP = 256  # activations that share a scale; more are no faster


class OpenVinoBackbone:
    """Runs texts side by side under a mask that keeps them apart, a few at a time: no padding.

    In int8 each weight matrix has a scale for every row, and the activations that go into it get one for every group of
    at most 256 in a row, when they are there. Attention, normalization and embeddings are in bfloat16 or float32.
    """

    device = torch.device("cpu")
    attention = "openvino"

    def __init__(self, checkpoint: Checkpoint, dtype: str) -> None:
        """Loads a model.

        Args:
            checkpoint: a model with an activation of `m3core.backbones.engines.ACTIVATIONS`.
            dtype: `"float32"`, `"bfloat16"` or `"int8"`.

        Raises:
            InvalidModel: weights are missing, damaged, of the wrong shape, or not finite.
        """
        other = best_float(self.device) if dtype == "int8" else dtype
        self.dtype: torch.dtype = getattr(torch, other)
        self._checkpoint = checkpoint
        with out_of_memory_named():
            state = int8_state(checkpoint) if dtype == "int8" else fused(load_state(checkpoint))
            self._words = state.pop("embeddings.word_embeddings.weight").numpy()
            self.vocabulary = len(self._words)
            group = _group(checkpoint.hidden_size) if dtype == "int8" else 0
            self._request = _compiled(encoder_graph(state, checkpoint), self.dtype, group)

    def forward(self, pack: Pack, between: Callable[[], object]) -> torch.Tensor:
        """See `Backbone.forward`."""
        positions = pack.positions(self._checkpoint.position_padding)
        with out_of_memory_named():
            states = np.empty((len(positions), self._checkpoint.hidden_size), np.float32)
            done = 0
            for piece in pack.split(list(_pieces(pack.lengths))):
                between()
                rows = slice(done, done + len(piece.token_ids))
                words = self._words[piece.token_ids].astype(np.float32, copy=False)
                inputs = [words, positions[rows], _mask(piece.lengths)]
                states[rows] = self._request.infer(inputs, share_outputs=True)[0]
                done = rows.stop
        return torch.from_numpy(states)

    def linear(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        """See `Backbone.linear`. Not by torch, as its threads and OpenVINO's would wait for each other."""
        request = _compiled(linear_graph(weight.float(), None if bias is None else bias.float()), weight.dtype)

        def apply(states: torch.Tensor) -> torch.Tensor:
            made: FloatArray = request.infer([states.numpy()])[0]
            return torch.from_numpy(made)

        return Linear(len(weight), apply)


def _compiled(model: ov.Model, dtype: torch.dtype, group: int = 0) -> ov.InferRequest:
    """Args: what computes in `dtype`, and in int8 with so many activations to a scale where weights are int8."""
    settings = {
        hint.performance_mode: hint.PerformanceMode.LATENCY,
        hint.inference_precision: ov.Type.bf16 if dtype == torch.bfloat16 else ov.Type.f32,
        hint.dynamic_quantization_group_size: group,
        hint.enable_cpu_pinning: False,  # several encoders or processes would be put on the same cores
        inference_num_threads: torch.get_num_threads(),
    }
    return ov.Core().compile_model(model, "CPU", settings).create_infer_request()


def _pieces(lengths: IntArray) -> Iterator[int]:
    """How many texts go through the graph at a time: as many as fit into a piece, and one at least."""
    texts = tokens = 0
    for length in lengths.tolist():
        if texts and tokens + length > _PIECE:
            yield texts
            texts = tokens = 0
        texts, tokens = texts + 1, tokens + length
    yield texts


def _mask(lengths: IntArray) -> FloatArray:
    """What is added to dot products, `(1, 1, t, t)`; for a single text `(1, 1, 1, t)`, as it all is one row."""
    if len(lengths) == 1:
        return np.zeros((1, 1, 1, int(lengths[0])), np.float32)
    text = np.repeat(np.arange(len(lengths)), lengths)
    return np.where(text[:, None] == text, np.float32(0), _FAR)[None, None]


def _group(width: int) -> int:
    """The largest divisor of a layer's width that is no more than `_MOST_IN_GROUP`."""
    return max(size for size in range(1, _MOST_IN_GROUP + 1) if width % size == 0)
