"""One system of the encoder benchmark in a process of its own, driven by JSON lines.

The argument is a JSON object: the `adapter`, the `model` directory, `threads`, the adapter's `options`, and the `query`
and `modes` to answer first. The first line of the reply tells the seconds that importing, loading and that query took,
and the versions. Each line that is read, `{"do": …}`, gets one line in reply; `do` is one of

- `warm_up`: encodes the `queries` one at a time, and the `texts` in one call;
- `passages`: encodes the `texts` in one call, and replies with wall-clock and processor seconds, and the share of the
  machine that other processes took meanwhile;
- `queries`: encodes them one at a time, and replies with the milliseconds of each as well;
- `vectors`: encodes the `texts`, and writes what came to the file `to`;
- `memory`: replies with the peak so far.
"""

import json
import os
import sys
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from machine import measured, peak_memory


def one_by_one(adapter: Any, texts: list[str], modes: list[str]) -> list[float]:
    """The milliseconds that each text takes alone."""
    milliseconds = []
    for text in texts:
        start = time.perf_counter()
        adapter.queries([text], modes)
        milliseconds.append(1000 * (time.perf_counter() - start))
    return milliseconds


def write_vectors(vectors: Any, path: str) -> None:
    """As arrays: of sparse and multi-vectors all entries one after the other, and how many each text has."""
    import numpy as np

    arrays = {"dense": vectors.dense}
    if vectors.sparse is not None:
        arrays["sparse_indices"] = np.array([index for weights in vectors.sparse for index in weights])
        arrays["sparse_values"] = np.array([value for weights in vectors.sparse for value in weights.values()])
        arrays["sparse_counts"] = np.array([len(weights) for weights in vectors.sparse])
    if vectors.multivector is not None:
        arrays["multivector"] = np.concatenate(vectors.multivector)
        arrays["multivector_counts"] = np.array([len(rows) for rows in vectors.multivector])
    np.savez(path, **arrays)


def answer(adapter: Any, command: dict[str, Any]) -> dict[str, Any]:
    """What one command is answered with."""
    texts, modes, long = (command.get(name) for name in ("texts", "modes", "long"))
    match command["do"]:
        case "warm_up":
            one_by_one(adapter, command["queries"], modes)
            adapter.passages(texts, modes, False)
        case "passages":
            with measured() as taken:
                adapter.passages(texts, modes, long)
            return taken
        case "queries":
            with measured() as taken:
                taken["milliseconds"] = one_by_one(adapter, texts, modes)
            return taken
        case "vectors":
            write_vectors(adapter.vectors(adapter.passages(texts, modes, False)), command["to"])
        case "memory":
            return {"bytes": peak_memory()}
    return {}


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def keep_to(threads: int) -> None:
    """Holds this process to as many cores as it may use, whatever a library takes for its number of threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main() -> None:
    """Answers commands until there are no more."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print goes to the log
    options = json.loads(sys.argv[1])
    keep_to(options["threads"])
    times = [time.perf_counter()]
    module = import_module(f"encoding.adapters.{options['adapter']}")
    times.append(time.perf_counter())
    adapter = module.Adapter(Path(options["model"]), options["threads"], **options["options"])
    times.append(time.perf_counter())
    adapter.queries([options["query"]], options["modes"])
    times.append(time.perf_counter())
    taken = {name: times[i + 1] - times[i] for i, name in enumerate(("import", "load", "query"))}
    print(json.dumps(taken | {"versions": versions(adapter.packages)}), file=replies)
    for line in sys.stdin:
        print(json.dumps(answer(adapter, json.loads(line))), file=replies)


if __name__ == "__main__":
    main()
