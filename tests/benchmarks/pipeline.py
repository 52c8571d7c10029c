"""How busy indexing keeps the encoder: encoding alone and `index` of the same passages, by turns, in one process.

    python tests/benchmarks/pipeline.py --rounds 10 [--modes dense,sparse]

The passages are the sections of two judged sets, into a new embedded collection each time. Prints the time of encoding
alone as a share of that of indexing, for each round, and their median.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from m3core import M3Encoder
from m3core.evaluation import load_beir
from m3stores import QdrantStore
from m3stores.pipeline import index

SETS = ("docs-zh-zh", "docs-en-en")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--model", default="m3-mini")
    parser.add_argument("--modes", type=lambda names: names.split(","), default=None)
    parser.add_argument("--sets", type=Path, default=os.environ.get("M3_EVAL_DIR", "../shared/eval"))
    arguments = parser.parse_args()
    texts = [text for name in SETS for text in load_beir(Path(arguments.sets) / name).corpus.texts]
    texts = list(dict.fromkeys(texts))
    encoder = M3Encoder(arguments.model, device="cpu")

    def alone() -> float:
        started = time.perf_counter()
        for _ in encoder.iter_encode(texts, modes=arguments.modes):
            pass
        return time.perf_counter() - started

    def indexed() -> float:
        with tempfile.TemporaryDirectory() as path, QdrantStore("bench", path=path) as store:
            started = time.perf_counter()
            index(({"text": text} for text in texts), encoder, store, modes=arguments.modes)
            took = time.perf_counter() - started
            assert store.count() == len(texts)
        return took

    encoder.warm_up()
    shares = []
    for number in range(arguments.rounds):
        order = (alone, indexed) if number % 2 else (indexed, alone)
        took = {run: run() for run in order}
        shares.append(took[alone] / took[indexed])
        print(f"{len(texts)} passages: alone {took[alone]:.1f} s, indexed {took[indexed]:.1f} s: {shares[-1]:.2f}")
    print(f"median {statistics.median(shares):.3f}")


if __name__ == "__main__":
    main()
