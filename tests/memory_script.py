"""Indexes many short records, by an encoder that makes zeros and into a store that keeps nothing; says what it takes.

Arguments: a model directory, for its tokenizer, and a JSON-lines file. Prints, for every 50,000 records, the process's
own memory in bytes: anonymous pages, no files.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from m3core import M3Encoder, M3Output, Record
from m3stores.collection import Comparison
from m3stores.pipeline import index


class Zeros:
    """What `index` needs of an encoder."""

    modes = ("dense",)

    def __init__(self, encoder: M3Encoder) -> None:
        self.fingerprint, self.max_length = encoder.fingerprint, encoder.max_length
        self.tokenizer_definition = encoder.tokenizer_definition

    def encode_documents(self, texts: Sequence[str], *, modes: Sequence[str]) -> M3Output:
        return M3Output(np.zeros((len(texts), 64)), fingerprint=self.fingerprint)


class Nothing:
    """What it needs of a store."""

    modes, remote, taken = (), False, 0

    def check_encoder(self, fingerprint: object) -> None:
        pass

    def compare(self, records: Sequence[Record]) -> Comparison:
        return Comparison(list(records), len(records))

    def upsert(self, records: Sequence[Record], output: M3Output) -> None:
        before, self.taken = self.taken, self.taken + len(records)
        if before // 50_000 < self.taken // 50_000:
            print(anonymous(), flush=True)

    def get(self, ids: Sequence[str]) -> list[Record]:
        return []


def anonymous() -> int:
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def main() -> None:
    encoder = M3Encoder(sys.argv[1], device="cpu")
    summary = index(sys.argv[2], Zeros(encoder), Nothing())
    print(f"{summary.encoded} encoded in {summary.seconds:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
