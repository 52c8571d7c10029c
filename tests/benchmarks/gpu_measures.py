"""What the benchmark on a card measures, one function each."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gpu_workload import WIDTH, Texts, Workload

from m3core import InvalidInput, M3Encoder, M3Output

ALL, TWO = ("dense", "sparse", "multivector"), ("dense", "sparse")
KERNELS = ("varlen", "flash", "padded", "sdpa")
_SHAPES = ((WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH))  # of a layer's products
_SEEN = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpyAsync")
_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


def finish(device: torch.device) -> None:
    """Waits until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(work: Callable[[], object], rounds: int) -> list[float]:
    """How long each round takes, after one that does not count."""
    work()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


def matmul_rates(device: torch.device, dtype: torch.dtype, tokens: int) -> dict[str, float]:
    """Operations a second in matrix products: of a large square, and of a layer's shapes with so many tokens."""
    side, times = (1024, 1) if device.type == "cpu" else (8192, 20)

    def rate(shapes: list[tuple[int, int, int]]) -> float:
        pairs = [
            (torch.randn(m, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype))
            for m, k, n in shapes
        ]

        def work() -> None:
            for _ in range(times):
                for a, b in pairs:
                    torch.nn.functional.linear(a, b)
            finish(device)

        return times * sum(2.0 * m * k * n for m, k, n in shapes) / min(seconds(work, 5))

    return {"square": rate([(side, side, side)]), "layer": rate([(tokens, k, n) for k, n in _SHAPES])}


def agreement(workload: Workload, device: str, dtype: str) -> dict[str, dict[str, Any]]:
    """Each kernel beside SDPA in float32: the lowest cosines, and the greatest difference of a token's weight."""
    texts = [*workload.chunks.texts[:64], *workload.queries[:16], "", workload.documents.texts[0]]
    with M3Encoder(workload.model, device=device, dtype="float32", attention="sdpa") as encoder:
        expected = encoder.encode_documents(texts)
    found: dict[str, dict[str, Any]] = {}
    for kernel in KERNELS:
        try:
            with M3Encoder(workload.model, device=device, dtype=dtype, attention=kernel) as encoder:
                found[kernel] = _differences(encoder.encode_documents(texts), expected)
        except InvalidInput as error:
            found[kernel] = {"cannot serve": str(error)}
    return found


def _differences(made: M3Output, expected: M3Output) -> dict[str, float]:
    rows = zip(made.multivector, expected.multivector, strict=True)
    weights = [0.0]
    for one, other in zip(made.sparse, expected.sparse, strict=True):
        x, y = one.as_dict(), other.as_dict()
        weights += [abs(x.get(i, 0.0) - y.get(i, 0.0)) for i in x.keys() | y.keys()]
    return {
        "dense": float((made.dense * expected.dense).sum(1).min()),
        "multivector": min(float((a * b).sum(1).min()) for a, b in rows),
        "sparse": float(max(weights)),
    }


def throughput(encoder: M3Encoder, workload: Workload, texts: Texts, modes: tuple[str, ...], rounds: int) -> dict:
    """From strings to arrays, in one call: seconds of each round, and the rates of the median one."""
    device = torch.device(encoder.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    taken = seconds(lambda: encoder.encode_documents(texts.texts, modes=modes), rounds)
    median = float(np.median(taken))
    return {
        "seconds": taken,
        "texts": len(texts.texts),
        "tokens": texts.tokens,
        "tokens_per_second": texts.tokens / median,
        "operations_per_second": workload.operations(texts) / median,
        "peak_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    }


def latencies(encoder: M3Encoder, queries: list[str]) -> dict[str, float]:
    """Of queries one after the other, in milliseconds."""
    encoder.encode_queries(queries[:1], modes=TWO)
    taken = []
    for query in queries:
        start = time.perf_counter()
        encoder.encode_queries([query], modes=TWO)
        taken.append(1000 * (time.perf_counter() - start))
    return {"p50": float(np.percentile(taken, 50)), "p95": float(np.percentile(taken, 95))}


def calls_per_pack(encoder: M3Encoder, texts: list[str]) -> dict[str, float] | None:
    """How often a pack launches a kernel, copies and waits, by what torch's profiler sees; `None` without CUDA."""
    if torch.device(encoder.device).type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    packs = []
    body = encoder._model.scheduler._runners[0].backbone._model
    hook = body.register_forward_pre_hook(lambda *_: packs.append(None))
    settings = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], experimental_config=settings) as profiled:
        encoder.encode_documents(texts, modes=ALL)
    hook.remove()
    names = Counter(event.name for event in profiled.events())
    found = {name: names[name] / len(packs) for name in _SEEN}
    return found | {"launches": sum(names[name] for name in _LAUNCHES) / len(packs), "packs": float(len(packs))}
