"""One system of the store benchmark in a process of its own, driven by JSON lines.

The argument is a JSON object: the system's `kind`, the `path` of its directory, the number of `records` and `queries`,
and the `seed`. The first line that it writes says the versions and a sample of its corpus, or what is `missing`. Each
line that is read, `{"do": …}`, gets one line in reply; `do` is one of

- `ingest`: opens a new store and writes all records, a block at a time; replies with the time spent in write calls;
- `optimize`: builds indexes, where the system asks for that;
- `open`: opens the store that an earlier process filled; replies with the seconds, and the milliseconds of one query;
- `queries`: with a `workload`, and a `budget` in seconds after which no other query begins; replies with the
  milliseconds of each, of these inside the engine if it is watched, and the numbers of the records that were found;
- `move`: of a QdrantStore; into a store of kind `to` at `target`;
- `quit`: replies with the memory, and ends.

Runs in the peers' environment too, so it imports nothing at the top that is not Python's own or numpy.
"""

import json
import os
import sys
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from machine import measured, peak_memory, resident
from stores_data import Corpus, Query

OURS = ("QdrantStore", "QdrantStore-indexed", "ChromaStore")


class System:
    """A store, and what is asked of it."""

    def __init__(self, kind: str, path: str, records: int, queries: int, seed: int) -> None:
        if kind in OURS:
            from stores_ours import KINDS
        else:
            from stores_peers import KINDS
        self._adapter: Any = KINDS[kind](Path(path))
        self.versions = {package: version(package) for package in self._adapter.packages}
        self._path = Path(path)
        self.corpus = Corpus(records, seed)
        *self._queries, self._first = self.corpus.queries(queries + 1)
        self._clock = getattr(self._adapter, "clock", None)
        self._adapter.prepare(self.corpus.block(0))  # memory that is needed for this is not the store's
        self._at_first = resident()

    def ingest(self) -> dict[str, Any]:
        """Writes all records into a new store."""
        seconds = 0.0
        self._adapter.open()
        with measured() as taken:
            for block in self.corpus.blocks():
                prepared = self._adapter.prepare(block)
                start = time.perf_counter()
                self._adapter.write(prepared)
                seconds += time.perf_counter() - start
        taken["with_preparation"] = taken["seconds"]
        return taken | {"seconds": seconds, "inside": self._inside(), "memory": self._added()}

    def optimize(self) -> dict[str, Any]:
        """Builds indexes."""
        with measured() as taken:
            self._adapter.optimize()
        return taken

    def open(self) -> dict[str, Any]:
        """Opens the store, and asks one query."""
        start = time.perf_counter()
        self._adapter.open()
        seconds = time.perf_counter() - start
        question = self._adapter.question(self._first, "hybrid")
        start = time.perf_counter()
        self._adapter.search(question)
        return {"seconds": seconds, "first_query": 1000 * (time.perf_counter() - start)}

    def queries(self, workload: str, budget: float) -> dict[str, Any]:
        """Asks the queries one by one, but at least one."""
        taken: dict[str, Any] = {"milliseconds": [], "inside": [], "calls": [], "found": []}
        end = time.perf_counter() + budget
        with measured() as about:
            for query in self._queries:
                self._ask(query, workload, taken)
                if time.perf_counter() > end:
                    break
        return taken | {"others": about["others"]}

    def _ask(self, query: Query, workload: str, taken: dict[str, Any]) -> None:
        question = self._adapter.question(query, workload)
        inside, calls = self._inside(), self._clock.calls if self._clock else 0
        start = time.perf_counter()
        found = self._adapter.search(question)
        taken["milliseconds"].append(1000 * (time.perf_counter() - start))
        taken["found"].append(found)
        if self._clock:
            taken["inside"].append(1000 * (self._inside() - inside))
            taken["calls"].append(self._clock.calls - calls)

    def move(self, to: str, target: str) -> dict[str, Any]:
        """Moves all records into a new store."""
        from stores_ours import moved

        return moved(self._path, to, Path(target))

    def quit(self) -> dict[str, Any]:
        """Closes the store."""
        memory = self._added()
        self._adapter.close()
        return {"memory": memory, "peak": peak_memory()}

    def _inside(self) -> Any:
        return self._clock.seconds if self._clock else None

    def _added(self) -> dict[str, int]:
        return {what: size - self._at_first[what] for what, size in resident().items()}


def main() -> None:
    """Answers commands until `quit`."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print goes to the log
    warnings.simplefilter("ignore")
    try:
        system = System(**json.loads(sys.argv[1]))
    except (ImportError, PackageNotFoundError) as error:
        print(json.dumps({"missing": str(error)}), file=replies)
        return
    print(json.dumps({"versions": system.versions, "sample": system.corpus.sample()}), file=replies)
    for line in sys.stdin:
        command = json.loads(line)
        do = command.pop("do")
        print(json.dumps(getattr(system, do)(**command)), file=replies)
        if do == "quit":
            break


if __name__ == "__main__":
    main()
