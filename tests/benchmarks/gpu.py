"""Checks and measures M3Encoder on a card in one call: kernels, speed, latency, memory and peers. See README.md."""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import gpu_measures as measures
import numpy as np
import torch
import transformers
from gpu_peers import PACKAGES
from gpu_workload import LAYERS, Workload, make_workload
from machine import processor_name
from rich.console import Console
from rich.table import Table

from m3core import M3Encoder
from m3core.backbones.engines import choose_device

SHARE, TIMES = 0.55, {"FlagEmbedding fp16": 3.0, "sentence-transformers bf16": 2.0}  # what it should reach
NOT_MEASURED = "not measured"
console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", help="the best there is, if left out")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--layers", type=int, default=LAYERS, help="of the model; bge-m3 has 24")
    parser.add_argument("--passages", type=int, default=4096)
    parser.add_argument("--documents", type=int, help="of 8,180 tokens; a 64th of the passages, if left out")
    parser.add_argument("--queries", type=int, help="a 16th of the passages, if left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peers-python", default=sys.executable, help="an interpreter with FlagEmbedding and sentence-transformers"
    )
    parser.add_argument("--peers-batch", type=int, nargs="+", default=[32, 128, 256], help="the best of these counts")
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    return parser.parse_args()


def main() -> None:
    """Runs the benchmark."""
    options = arguments()
    device = choose_device(options.device)
    documents = options.documents or max(1, options.passages // 64)
    queries = options.queries or max(4, options.passages // 16)
    with tempfile.TemporaryDirectory() as directory:
        workload = make_workload(Path(directory), options.layers, options.passages, documents, queries)
        found = conditions(device, workload)
        found["kernels"] = measures.agreement(workload, str(device), options.dtype)
        with M3Encoder(workload.model, device=str(device), engine="torch", dtype=options.dtype) as encoder:
            found |= measured(encoder, device, workload, options.rounds)
        found["peers"] = {} if device.type != "cuda" else peers(workload, device, options)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")


def conditions(device: torch.device, workload: Workload) -> dict[str, Any]:
    """Prints and returns what the numbers depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    lengths = workload.chunks.lengths
    found = {
        "date": str(date.today()),
        "device": str(device),
        "name": name,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": transformers.__version__,
        "layers": workload.layers,
        "chunks": {"texts": len(lengths), "mean": float(np.mean(lengths)), "longest": max(lengths)},
        "documents": {"texts": len(workload.documents.lengths), "longest": max(workload.documents.lengths)},
        "queries": len(workload.queries),
    }
    console.print(", ".join(f"{what} {value}" for what, value in found.items()))
    return found


def measured(encoder: M3Encoder, device: torch.device, workload: Workload, rounds: int) -> dict[str, Any]:
    """Everything that the encoder of the default kernel is measured by."""
    encoder.warm_up()
    dtype: torch.dtype = getattr(torch, encoder.dtype)
    chunks, documents = workload.chunks, workload.documents
    return {
        "attention": encoder.attention,
        "dtype": encoder.dtype,
        "matmul": measures.matmul_rates(device, dtype, encoder._model.scheduler.budget.tokens),
        "two_modes": measures.throughput(encoder, workload, chunks, measures.TWO, rounds),
        "all_modes": measures.throughput(encoder, workload, chunks, measures.ALL, rounds),
        "long_documents": measures.throughput(
            encoder, workload, documents, measures.TWO, rounds if device.type != "cpu" else 1
        ),
        "query_milliseconds": measures.latencies(encoder, workload.queries),
        "calls_per_pack": measures.calls_per_pack(encoder, chunks.texts[:512]),
    }


def peers(workload: Workload, device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """The seconds that each peer takes for the same chunks, or why there are none."""
    found = {}
    for peer in PACKAGES:
        asked = {
            "peer": peer,
            "model": str(workload.model),
            "device": f"cuda:{device.index or 0}",
            "texts": workload.chunks.texts,
            "rounds": options.rounds,
            "batch_sizes": options.peers_batch,
        }
        command = [options.peers_python, str(Path(__file__).with_name("gpu_peers.py"))]
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
        found[peer] = json.loads(done.stdout) if done.returncode == 0 else {"missing": done.stderr[-2000:]}
    return found


def show(found: dict[str, Any]) -> None:
    """Prints the tables."""
    table = Table("kernel", "lowest cosine, dense", "lowest cosine, multi-vector", "greatest difference, sparse")
    for kernel, values in found["kernels"].items():
        if "cannot serve" in values:
            table.add_row(kernel, values["cannot serve"])
        else:
            table.add_row(kernel, *(f"{values[what]:.6f}" for what in ("dense", "multivector", "sparse")))
    console.print(table)
    table = Table("what", "tokens/s", "TFLOP/s", "of a square's rate", "of a layer's rate", "peak GB on the card")
    rates = found["matmul"]
    for what in ("two_modes", "all_modes", "long_documents"):
        values = found[what]
        own, peak = values["operations_per_second"], values["peak_bytes"]
        table.add_row(
            what.replace("_", " "),
            f"{values['tokens_per_second']:,.0f}",
            f"{own / 1e12:.2f}",
            f"{own / rates['square']:.0%}",
            f"{own / rates['layer']:.0%}",
            NOT_MEASURED if peak is None else f"{peak / 1e9:.2f}",
        )
    console.print(table)
    console.print(f"attention {found['attention']}, {found['dtype']}; matrix products in TFLOP/s:", end=" ")
    console.print(f"square {rates['square'] / 1e12:.2f}, layer {rates['layer'] / 1e12:.2f}")
    console.print("queries: " + ", ".join(f"{p} {ms:.1f} ms" for p, ms in found["query_milliseconds"].items()))
    calls = found["calls_per_pack"]
    console.print(
        "per pack: " + (NOT_MEASURED if calls is None else ", ".join(f"{k} {v:.1f}" for k, v in calls.items()))
    )
    targets(found)


def targets(found: dict[str, Any]) -> None:
    """Prints what should be reached beside what is."""
    table = Table("target", "should be", "is")
    on_card = found["device"].startswith("cuda")
    share = found["two_modes"]["operations_per_second"] / found["matmul"]["square"]
    table.add_row(
        "share of the card's matmul rate (chunks, dense and sparse, strings to arrays)",
        f">= {SHARE:.0%}",
        f"{share:.0%}" if on_card else NOT_MEASURED,
    )
    ours = float(np.median(found["two_modes"]["seconds"]))
    for peer, times in TIMES.items():
        values = found["peers"].get(peer, {})
        theirs = np.median(values["seconds"]) / ours if "seconds" in values else None
        missing = values.get("missing", "")
        table.add_row(
            f"times {peer}", f">= {times:.0f}", f"{NOT_MEASURED} {missing}" if theirs is None else f"{theirs:.2f}"
        )
    console.print(table)


if __name__ == "__main__":
    main()
