"""Runs of `index` in processes of their own, to be killed, and what must be there after them."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import indexing_script
import numpy as np

from m3core import M3Encoder, Record
from m3stores import QdrantStore

RECORDS, KILLS, BATCH = 20_000, 20, 600
WORDS = ["the", "one", "of", "me", "it", "中国", "人", "说", "的", "是", "大", "a", "b", "c", "d", "1", "2", "3"]


def texts_of(chance: random.Random) -> list[str]:
    return [" ".join(chance.choices(WORDS, k=chance.randint(2, 30))) for _ in range(RECORDS)]


def write(source: Path, texts: list[str]) -> None:
    source.write_text("".join(json.dumps({"_id": f"r{i}", "text": t, "n": i}) + "\n" for i, t in enumerate(texts)))


def run(arguments: dict[str, object]) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, indexing_script.__file__, json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)


def check(store: QdrantStore, texts: list[str], encoder: M3Encoder) -> None:
    """Every record is there once, as it is in the source, with the vectors of its text."""
    held: dict[str, tuple[Record, np.ndarray]] = {}
    with store:
        for page in store.scroll(size=1000, with_vectors=True):
            for record, dense in zip(page.records, page.output.dense, strict=True):
                assert record.id not in held
                held[record.id] = record, dense
    assert held.keys() == {f"r{i}" for i in range(RECORDS)}
    assert all(held[f"r{i}"][0] == Record(f"r{i}", text, {"n": i}) for i, text in enumerate(texts))
    expected = encoder.encode_documents(texts, modes=["dense"]).dense
    found = np.stack([held[f"r{i}"][1] for i in range(RECORDS)])
    np.testing.assert_allclose(found, expected, atol=2e-3)
