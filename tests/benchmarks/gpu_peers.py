"""A peer of the benchmark on a card, in a process of its own: reads a JSON object, and writes one line of JSON.

It reads `peer`, the `model` directory, `device`, `texts`, `rounds` and `batch_sizes`, and replies with the seconds of
each round at the best batch size, or with `missing` where the peer cannot be imported. Needs nothing but the peer.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

PACKAGES = {"FlagEmbedding fp16": "FlagEmbedding", "sentence-transformers bf16": "sentence_transformers"}
Encode = Callable[[list[str], int], object]


def flag_embedding(model: str, device: str) -> Encode:
    """Dense and sparse, in float16 on a card."""
    from FlagEmbedding import BGEM3FlagModel

    encoder = BGEM3FlagModel(model, use_fp16=True, devices=device)
    modes = {"return_dense": True, "return_sparse": True, "return_colbert_vecs": False}
    return lambda texts, size: encoder.encode(texts, batch_size=size, max_length=8192, **modes)


def sentence_transformers(model: str, device: str) -> Encode:
    """Dense, all that it has for this model, in bfloat16."""
    import torch
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(model, device=device, model_kwargs={"torch_dtype": torch.bfloat16})
    return lambda texts, size: encoder.encode(texts, batch_size=size, show_progress_bar=False)


def main() -> None:
    """Measures, and replies."""
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes elsewhere
    asked = json.load(sys.stdin)
    package = PACKAGES[asked["peer"]]
    if find_spec(package) is None:
        print(json.dumps({"missing": f"{package} is not installed"}), file=reply)
        return
    load = flag_embedding if package == "FlagEmbedding" else sentence_transformers
    encode = load(asked["model"], asked["device"])
    measured = {}
    for size in asked["batch_sizes"]:
        encode(asked["texts"], size)
        measured[size] = []
        for _ in range(asked["rounds"]):
            start = time.perf_counter()
            encode(asked["texts"], size)
            measured[size].append(time.perf_counter() - start)
    best = min(measured, key=lambda size: sorted(measured[size])[len(measured[size]) // 2])
    print(json.dumps({"seconds": measured[best], "batch_size": best}), file=reply)


if __name__ == "__main__":
    main()
