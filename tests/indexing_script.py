"""Puts a file into an embedded collection, in a process of its own. Arguments: one JSON object."""

import json
import sys
from collections.abc import Sequence

import torch

from m3core import M3Encoder, M3Output, Record
from m3stores import QdrantStore
from m3stores.pipeline import index


class Telling(QdrantStore):
    """Says when it has stored something."""

    def upsert(self, records: Sequence[Record], output: M3Output) -> list[str]:
        written = super().upsert(records, output)
        print(f"stored {len(written)}\n", end="", flush=True)  # at once: two threads store
        return written


def main() -> None:
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    encoder = M3Encoder(given["model"], dtype="float32", device="cpu", engine="torch")
    print("ready", flush=True)
    with Telling("test", path=given["path"]) as store:
        summary = index(given["source"], encoder, store, batch_size=given["batch_size"], ray=given.get("ray"))
    print(json.dumps(summary.report()))


if __name__ == "__main__":
    main()
