"""Measures M3Encoder beside other encoders: same weights, texts and threads, all in one run. See README.md."""

import argparse
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from encoding import plot
from encoding.benchmark import Benchmark
from encoding.models import SHAPES
from encoding.results import Results
from encoding.systems import OURS
from encoding.tables import conditions, markdown, tables
from encoding.workloads import TITLES
from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="bge-m3", help="of the model")
    parser.add_argument("--layers", type=int, help="fewer than the model has: bge-m3 24, m3e-base 12")
    parser.add_argument(
        "--full-vocabulary", action="store_true", help="bge-m3 with all 250,002 rows of embeddings; 45,836 otherwise"
    )
    parser.add_argument(
        "--peers-python",
        nargs="+",
        default=[],
        metavar="PYTHON",
        help="the interpreters of the peers' environments; each peer takes the first that has its packages",
    )
    parser.add_argument(
        "--ours",
        nargs="+",
        type=json.loads,
        default=OURS,
        metavar="JSON",
        help='what M3Encoder is made with, such as \'{"dtype": "bfloat16"}\', once for each system of ours',
    )
    parser.add_argument("--systems", nargs="+", metavar="SYSTEM", help="only these, of ours and of the peers, by key")
    parser.add_argument("--workloads", nargs="+", choices=TITLES, default=list(TITLES), help="only these")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of a system; all cores")
    parser.add_argument("--rounds", type=int, default=3, help="3; all systems take turns in each")
    parser.add_argument(
        "--budget", type=float, default=600.0, help="seconds, 600; what takes a system longer is not measured again"
    )
    parser.add_argument("--passages", type=int, default=64, help="64")
    parser.add_argument("--queries", type=int, default=30, help="30")
    parser.add_argument("--documents", type=int, default=4, help="of 1,000 to 8,000 tokens, 4")
    parser.add_argument("--spread", type=float, default=0.8, help="standard deviation of the logarithm of lengths, 0.8")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds to wait for a quiet machine before each measurement"
    )
    parser.add_argument("--peers-batch", type=int, help="of FlagEmbedding and sentence-transformers on torch")
    parser.add_argument("--directory", type=Path, help="keeps the model and what peers make of it, for further runs")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="measures nothing, shows this JSON")
    parser.add_argument("--json", type=Path, help="also write everything measured to this file, as it comes")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    parser.add_argument("--plot", type=Path, help="also draw them into this PNG; needs matplotlib")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> Results:
    """Runs the benchmark."""
    with ExitStack() as stack:
        directory = options.directory or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        benchmark = Benchmark(options, directory.resolve(), console)
        benchmark.run()
    return benchmark.results


def main() -> None:
    """Measures, or reads what was measured, and shows it."""
    options = arguments()
    if options.plot:
        plot.check()
    results = Results.read(options.source) if options.source else measure(options)
    for line in conditions(results):
        console.print(line)
    for table in tables(results):
        console.print(table.rich())
    if options.markdown:
        options.markdown.write_text(markdown(results), encoding="utf-8")
    if options.plot:
        plot.draw(results, options.plot)


if __name__ == "__main__":
    main()
