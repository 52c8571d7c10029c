"""Where the time of a forward pass in int8 goes, beside what the machine's matrix products reach. See README.md.

python tests/benchmarks/breakdown.py             # random weights of bge-m3's shape, 6 layers
python tests/benchmarks/breakdown.py --tokens 18  # of a short query
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from encoding.models import build_model
from openvino.properties import enable_profiling, hint, inference_num_threads

from m3core.backbones.engines import best_float
from m3core.backbones.graph import encoder_graph
from m3core.checkpoint import Checkpoint
from m3core.quantizing import int8_state

_GROUP = 256
_RUNS = 20
_KINDS = {  # of OpenVINO's nodes
    "FullyConnectedCompressed": "linear layers, GELU included",
    "FullyConnected": "linear layers, GELU included",
    "Subgraph": "attention",
    "ScaledDotProductAttention": "attention",
    "ScaledDotProductAttentionWithKVCache": "attention",
}
_SHAPES = ((1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024))  # of a layer's matrices, in and out


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=256, help="of the text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        build_model(Path(temporary), options.layers)
        checkpoint = Checkpoint.read(Path(temporary), name="random", revision=None)
        model = encoder_graph(int8_state(checkpoint), checkpoint)
        total, kinds = profiled(model, options.tokens)
    products = sum(2 * width * outputs for width, outputs in _SHAPES) * options.layers * options.tokens
    print(
        f"one text of {options.tokens} tokens, {options.layers} layers: {total * 1e3:.1f} ms\n\n| | share |\n|---|---|"
    )
    for kind, share in kinds.most_common():
        print(f"| {kind} | {share:.0%} |")
    linear = total * kinds[_KINDS["FullyConnected"]]
    print("\n| matrix products | GFLOP/s |\n|---|---|")
    print(f"| ours in int8, all layers' together | {products / linear / 1e9:.0f} |")
    rows = options.tokens
    for name, rate in (
        ("int8 activations and weights, torch", integers(rows)),
        ("bfloat16, torch", floats(rows, torch.bfloat16)),
        ("float32, torch", floats(rows, torch.float32)),
    ):
        print(f"| {name}, the same shapes alone | {rate / 1e9:.0f} |")
    print(f"\nreading memory: {bandwidth() / 1e9:.0f} GB/s; int8 matrices: {int8_bytes(options.layers) / 1e6:.0f} MB")


def profiled(model: ov.Model, tokens: int) -> tuple[float, Counter[str]]:
    """Seconds of a forward pass, median, and the share of each kind of operation."""
    settings: dict[Any, Any] = {
        hint.performance_mode: hint.PerformanceMode.LATENCY,
        hint.inference_precision: ov.Type.bf16 if best_float(torch.device("cpu")) == "bfloat16" else ov.Type.f32,
        hint.dynamic_quantization_group_size: _GROUP,
        inference_num_threads: torch.get_num_threads(),
        enable_profiling: True,
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    words = np.random.default_rng(0).normal(size=(tokens, 1024)).astype(np.float32)
    mask = np.zeros((1, 1, 1, tokens), np.float32)
    seconds = median(lambda: request.infer([words, np.arange(2, tokens + 2), mask], share_outputs=True))
    spent: Counter[str] = Counter()
    for node in request.get_profiling_info():
        spent[_KINDS.get(node.node_type, "everything else")] += node.real_time.total_seconds()
    whole = sum(spent.values())
    return seconds, Counter({kind: taken / whole for kind, taken in spent.items()})


def integers(rows: int) -> float:
    """Operations a second of int8 products into int32, without any scales."""
    return rate(rows, lambda shape: torch.randint(-127, 128, shape, dtype=torch.int8), torch._int_mm)


def floats(rows: int, dtype: torch.dtype) -> float:
    """Operations a second in a dtype."""
    return rate(rows, lambda shape: torch.randn(shape, dtype=dtype), torch.mm)


def rate(
    rows: int,
    make: Callable[[tuple[int, int]], torch.Tensor],
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> float:
    """Operations a second over a layer's shapes."""
    operations = seconds = 0.0
    for width, outputs in _SHAPES:
        one, other = make((rows, width)), make((width, outputs))
        seconds += median(lambda one=one, other=other: multiply(one, other))  # type: ignore[misc]
        operations += 2 * rows * width * outputs
    return operations / seconds


def bandwidth() -> float:
    """Bytes a second of reading far more than a cache holds."""
    much = torch.ones(1 << 27)
    return much.numel() * much.element_size() / median(much.sum)


def int8_bytes(layers: int) -> int:
    """Of the matrices of all layers."""
    return layers * sum(width * outputs for width, outputs in _SHAPES)


def median(work: Callable[[], object]) -> float:
    """Seconds of one run."""
    work()
    taken = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


if __name__ == "__main__":
    main()
