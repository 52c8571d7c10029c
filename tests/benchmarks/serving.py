"""Loads the server of examples/serve.py with queries and documents at once, and checks every answer. See README.md.

python tests/benchmarks/serving.py                              # 60 seconds, m3-mini; needs fastapi and uvicorn
"""

import argparse
import base64
import http.client
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from encoding.texts import ROOT

from m3core import M3Encoder, M3Output
from m3core.records import read_records

_CORPUS = ROOT / "examples" / "data" / "debate"
_MODES = (None, ["dense"], ["dense", "sparse"], ["sparse", "multivector"])


@dataclass
class Load:
    """What clients send by kind, with what should come back, and what came."""

    sent: dict[str, tuple[list[str], M3Output]]
    until: float = 0.0
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)

    def client(self, port: int, kind: str, number: int, pause: float, seed: int) -> None:
        """Asks again and again, `number` texts at a time, until the time is over."""
        chance = random.Random(seed)
        texts, expected = self.sent[kind]
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.monotonic() < self.until:
            rows = chance.choices(range(len(texts)), k=number)
            modes = chance.choice(_MODES)
            body = json.dumps({"texts": [texts[row] for row in rows], "modes": modes})
            start = time.perf_counter()
            connection.request("POST", f"/{kind}", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            self.seconds[kind].append(time.perf_counter() - start)
            if answer.status != 200 or not is_right(json.loads(content), expected[np.array(rows)], modes):
                self.wrong.append(f"{kind} {rows} {modes}: {answer.status} {content[:200]!r}")
            time.sleep(chance.expovariate(1 / pause))


def is_right(found: dict, expected: M3Output, modes: list[str] | None) -> bool:
    """Whether an answer is what the encoder gives for these texts alone, but for bfloat16's rounding."""
    if found.keys() != set(modes or ("dense", "sparse", "multivector")):
        return False
    right = True
    if "dense" in found:
        vectors = np.stack([decoded(text) for text in found["dense"]])
        right &= bool((np.einsum("nd,nd->n", vectors, expected.dense) > 0.999).all())
    if "sparse" in found:
        for got, want in zip(found["sparse"], expected.sparse, strict=True):
            weights = dict(zip(got["indices"], got["values"], strict=True))
            away = [abs(weights.pop(i, 0.0) - v) for i, v in want.as_dict().items()]
            right &= max([*away, *weights.values(), 0.0]) < 0.05
    if "multivector" in found:
        for got, want in zip(found["multivector"], expected.multivector, strict=True):
            rows = decoded(got["data"]).reshape(got["rows"], -1)
            right &= rows.shape == want.shape and bool((np.einsum("td,td->t", rows, want) > 0.99).all())
    return right


def decoded(text: str) -> np.ndarray:
    """The numbers that the server put into base64."""
    return np.frombuffer(base64.b64decode(text), "<f4")


def main() -> None:
    """Runs the server and its clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--query-clients", type=int, default=16)
    parser.add_argument("--document-clients", type=int, default=2)
    options = parser.parse_args()
    sent = {}
    with M3Encoder("m3-mini") as encoder:
        for kind, name in (("queries", "queries.jsonl"), ("documents", "corpus.jsonl")):
            texts = [record.text for record in read_records(_CORPUS / name)][:100]
            sent[kind] = texts, M3Output.concat(encoder.encode_documents([text]) for text in texts)
    load = Load(sent)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "examples" / "serve.py", "--model", "m3-mini", "--port", str(port)]
    server = subprocess.Popen(command)
    try:
        await_server(port)
        load.until = time.monotonic() + options.seconds
        plans = [("queries", 1, 0.05)] * options.query_clients + [("documents", 16, 0.05)] * options.document_clients
        clients = [threading.Thread(target=load.client, args=(port, *plan, seed)) for seed, plan in enumerate(plans)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    finally:
        server.terminate()
        server.wait()
    print("| | requests | per second | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|---|---|")
    for kind, taken in load.seconds.items():
        times = " | ".join(f"{value * 1000:.0f}" for value in np.percentile(taken, [50, 95, 99]))
        print(f"| {kind} | {len(taken)} | {len(taken) / options.seconds:.1f} | {times} |")
    print(f"\nwrong results: {len(load.wrong)}", *load.wrong[:5], sep="\n")


def await_server(port: int) -> None:
    """Waits until it answers."""
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/health")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.2)


if __name__ == "__main__":
    main()
