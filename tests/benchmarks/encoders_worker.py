"""One system of the encoder benchmark in a process of its own, driven by JSON lines.

The argument is a JSON object with the system's `kind`, the `model` directory, `threads`, for m3core `dtype` and
`modes`, and for the others perhaps `batch_size`. Each line that is read, `{"do": …, "texts": […]}`, gets one line in
reply; `do` is one of

- `warmup`: encodes the texts, and replies with their dense vectors, for comparison;
- `passages`: encodes the texts in one call, and replies with wall-clock and processor seconds, and the share of the
  machine that other processes took meanwhile;
- `queries`: encodes them one at a time, and replies with the milliseconds of each as well;
- `quit`: replies with the peak memory, and ends.

Runs in the peers' environment too, so it imports nothing at the top that needs more than Python.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from machine import measured, peak_memory

Encode = Callable[[list[str]], Any]
Encoders = tuple[Encode, Encode, Callable[[Any], Any]]  # of passages, of queries; and where the dense vectors are


def load_m3core(model: str, dtype: str, modes: list[str]) -> Encoders:
    from m3core import M3Encoder

    encoder = M3Encoder(model, device="cpu", dtype=dtype)
    return (
        lambda texts: encoder.encode_documents(texts, modes=modes),
        lambda texts: encoder.encode_queries(texts, modes=modes),
        lambda output: output.dense,
    )


def load_flagembedding(model: str, **batch: int) -> Encoders:
    from FlagEmbedding import BGEM3FlagModel

    encoder = BGEM3FlagModel(model, use_fp16=False, devices="cpu", **batch)
    modes = {"return_dense": True, "return_sparse": True, "return_colbert_vecs": True}
    return (
        lambda texts: encoder.encode(texts, max_length=8192, **modes),
        lambda texts: encoder.encode_queries(texts, **modes),
        lambda output: output["dense_vecs"],
    )


def load_sentence_transformers(model: str, **batch: int) -> Encoders:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(model, device="cpu")
    return lambda texts: encoder.encode(texts, **batch), encoder.encode, lambda output: output


def load(kind: str, **options: Any) -> tuple[Encoders, str]:
    """The encoders of a system, and its version."""
    if kind == "flagembedding":
        return load_flagembedding(**options), version("FlagEmbedding")
    if kind == "sentence-transformers":
        return load_sentence_transformers(**options), version("sentence-transformers")
    encoders = load_m3core(**options)
    import m3core

    return encoders, m3core.__version__


def one_by_one(texts: list[str], encode: Encode) -> list[float]:
    """The milliseconds that each text takes alone."""
    milliseconds = []
    for text in texts:
        start = time.perf_counter()
        encode([text])
        milliseconds.append(1000 * (time.perf_counter() - start))
    return milliseconds


def answer(do: str, texts: list[str], encoders: Encoders) -> dict[str, Any]:
    """What one command is answered with."""
    encode_passages, encode_queries, dense = encoders
    match do:
        case "warmup":
            one_by_one(texts, encode_queries)
            return {"dense": dense(encode_passages(texts)).tolist()}
        case "passages":
            with measured() as taken:
                encode_passages(texts)
            return taken
        case "queries":
            with measured() as taken:
                taken["milliseconds"] = one_by_one(texts, encode_queries)
            return taken
        case _:
            return {"peak_memory": peak_memory()}


def main() -> None:
    """Answers commands until `quit`."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print goes to the log
    options = json.loads(sys.argv[1])
    import torch

    torch.set_num_threads(options.pop("threads"))
    encoders, own = load(**options)
    versions = {"version": own, "torch": torch.__version__, "transformers": version("transformers")}
    print(json.dumps(versions), file=replies)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(answer(command["do"], command.get("texts", []), encoders)), file=replies)
        if command["do"] == "quit":
            break


if __name__ == "__main__":
    main()
