"""A BERT or XLM-R encoder as an OpenVINO graph over packed tokens, made of a model's weights without any tracing."""

import numpy as np
import openvino as ov
import torch
from openvino import Node, opset13

from m3core.checkpoint import Checkpoint
from m3core.weights import State


def encoder_graph(state: State, checkpoint: Checkpoint) -> ov.Model:
    """The encoder over packed tokens.

    Its inputs, in this order:

    - `words`: `(tokens, hidden)` float32, the word embeddings of texts side by side. Looking them up is not part of it:
      the table is the largest of a multilingual model's weights, and would be in memory once more.
    - `positions`: `(tokens,)` int64, as `Pack.positions` counts.
    - `mask`: `(1, 1, tokens or 1, tokens)` float32, added to the dot products: 0 within a text, very negative between.

    It gives the hidden state of each token, `(tokens, hidden)` float32.

    Args:
        state: weights by transformers' names, with queries, keys and values in one; float32, or as
            `m3core.quantizing.quantized` makes them. The graph shares their memory.
        checkpoint: what they belong to.
    """
    words = opset13.parameter([-1, checkpoint.hidden_size], ov.Type.f32, "words")
    positions = opset13.parameter([-1], ov.Type.i64, "positions")
    mask = opset13.parameter([1, 1, -1, -1], ov.Type.f32, "mask")
    builder = _Builder(state, checkpoint)
    return ov.Model([builder.encoder(words, positions, mask)], [words, positions, mask])


def linear_graph(weight: torch.Tensor, bias: torch.Tensor | None) -> ov.Model:
    """A linear layer, `(n, k)` in and `(n, m)` out, by weight `(m, k)` and bias `(m,)`, if any; all in float32."""
    states = opset13.parameter([-1, weight.shape[1]], ov.Type.f32, "states")
    made = opset13.matmul(states, opset13.constant(weight.numpy()), False, True)
    if bias is not None:
        made = opset13.add(made, opset13.constant(bias[None].numpy()))
    return ov.Model([made], [states])


class _Builder:
    def __init__(self, state: State, checkpoint: Checkpoint) -> None:
        self._state, self._checkpoint = state, checkpoint
        self._heads = checkpoint.hidden_size // checkpoint.head_dim

    def encoder(self, words: Node, positions: Node, mask: Node) -> Node:
        table = self._constant(self._state["embeddings.position_embeddings.weight"])
        states = self._add(words, opset13.convert(opset13.gather(table, positions, _int(0)), "f32"))
        kind = self._state["embeddings.token_type_embeddings.weight"][:1].float()  # all texts are of the first kind
        states = self._normalized(self._add(states, self._constant(kind)), "embeddings.LayerNorm")
        layer = 0
        while f"encoder.layer.{layer}.output.dense.weight" in self._state:
            states = self._layer(states, mask, f"encoder.layer.{layer}")
            layer += 1
        if "channels" in self._state:
            states = opset13.gather(states, self._constant(self._state["channels"]), _int(1))
        return states

    def _layer(self, states: Node, mask: Node, name: str) -> Node:
        attended = self._linear(self._attention(states, mask, name), f"{name}.attention.output.dense")
        states = self._normalized(self._add(states, attended), f"{name}.attention.output.LayerNorm")
        wide = self._activated(self._linear(states, f"{name}.intermediate.dense"))
        return self._normalized(
            self._add(states, self._linear(wide, f"{name}.output.dense")), f"{name}.output.LayerNorm"
        )

    def _attention(self, states: Node, mask: Node, name: str) -> Node:
        projected = self._linear(states, f"{name}.attention.self.qkv")
        apart = opset13.reshape(projected, _ints(1, -1, 3, self._heads, self._checkpoint.head_dim), False)
        by_head = opset13.transpose(apart, _ints(2, 0, 3, 1, 4))  # (3, 1, heads, tokens, head_dim)
        query, key, value = (opset13.squeeze(part, _ints(0)) for part in opset13.split(by_head, _int(0), 3).outputs())
        attended = opset13.scaled_dot_product_attention(query, key, value, mask)
        return opset13.reshape(
            opset13.transpose(attended, _ints(0, 2, 1, 3)), _ints(-1, self._checkpoint.hidden_size), False
        )

    def _activated(self, states: Node) -> Node:
        return opset13.relu(states) if self._checkpoint.activation == "relu" else opset13.gelu(states, "erf")

    def _linear(self, states: Node, name: str) -> Node:
        weight = self._constant(self._state[f"{name}.weight"])
        if f"{name}.scale" in self._state:
            weight = opset13.multiply(opset13.convert(weight, "f32"), self._constant(self._state[f"{name}.scale"]))
        product = opset13.matmul(states, weight, False, True)
        return self._add(product, self._row(f"{name}.bias"))

    def _normalized(self, states: Node, name: str) -> Node:
        unit = opset13.mvn(states, _ints(-1), True, self._checkpoint.layer_norm_eps, "INSIDE_SQRT")
        return self._add(opset13.multiply(unit, self._row(f"{name}.weight")), self._row(f"{name}.bias"))

    def _row(self, name: str) -> Node:
        return self._constant(self._state[name][None])

    def _constant(self, tensor: torch.Tensor) -> Node:
        return opset13.constant(tensor.numpy(), shared_memory=True)

    def _add(self, left: Node, right: Node) -> Node:
        return opset13.add(left, right)


def _int(value: int) -> Node:
    return opset13.constant(np.array(value))


def _ints(*values: int) -> Node:
    return opset13.constant(np.array(values))
