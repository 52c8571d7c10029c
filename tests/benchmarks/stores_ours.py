"""The stores of this project for the store benchmark, with a clock on what happens inside their engines."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stores_data import LOW, WIDTH, Block, Query

from m3core import Fingerprint, M3Output, Record, SparseVector
from m3stores import ChromaStore, HybridStore, QdrantSettings, QdrantStore, migrate

K = 10
_MADE_BY = Fingerprint("benchmark", "1", ("dense", "sparse"), WIDTH, None, "cls", True, 8192)
_MODES = {"dense": ["dense"], "sparse": ["sparse"]}


class Clock:
    """How many calls there were, and how long they took together."""

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, watched."""

        def watched(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                result = function(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start
                self.calls += 1
            return Watched(result, self) if type(result).__module__.startswith("chromadb.api.models") else result

        return watched


class Watched:
    """An engine's object, whose methods are timed."""

    def __init__(self, watched: Any, clock: Clock) -> None:
        self._watched = watched
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._watched, name)
        return self._clock.timed(found) if callable(found) else found


class Ours:
    """One of our stores, open, with its engine watched."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self._path = path
        self._store: Any = None

    @staticmethod
    def prepare(block: Block) -> tuple[list[Record], M3Output]:
        """What an encoder and its user have at hand before they write."""
        held = zip(block.rows, block.texts, block.metadata(), strict=True)
        sparse = [SparseVector(*vector) for vector in block.sparse]
        records = [Record(str(row), text, metadata) for row, text, metadata in held]
        return records, M3Output(block.dense, sparse, fingerprint=_MADE_BY)

    def write(self, prepared: tuple[list[Record], M3Output]) -> None:
        self._store.upsert(*prepared)

    @staticmethod
    def question(query: Query, workload: str) -> tuple[M3Output, dict[str, Any]]:
        """The arguments of `search`."""
        output = M3Output(query.dense[None], [SparseVector(*query.sparse)], fingerprint=_MADE_BY)
        filters = {"group": {"group": query.group}, "number": {"number": {"$lt": LOW}}}
        return output, {"modes": _MODES.get(workload), "filter": filters.get(workload)}

    def search(self, question: tuple[M3Output, dict[str, Any]]) -> list[int]:
        output, options = question
        return [int(hit.id) for hit in self._store.search(output, k=K, **options)[0]]

    def close(self) -> None:
        self._store.close()


class Qdrant(Ours):
    """`QdrantStore` on this disk."""

    packages = ("qdrant-edge-py",)
    _settings = QdrantSettings()

    def open(self) -> None:
        self._store = QdrantStore("benchmark", path=self._path, settings=self._settings)
        guard = self._store._edge._guard
        use = guard.use

        @contextmanager
        def watched() -> Iterator[Watched]:
            with use() as shard:
                yield Watched(shard, self.clock)

        guard.use = watched

    def optimize(self) -> None:
        self._store.optimize()


class QdrantIndexed(Qdrant):
    """`QdrantStore` with indexes of the fields that filters are about."""

    _settings = QdrantSettings(indexed={"group": "keyword", "number": "integer"})


class Chroma(Ours):
    """`ChromaStore` on this disk."""

    packages = ("chromadb",)

    def open(self) -> None:
        self._store = ChromaStore("benchmark", path=self._path)
        collection = self._store._engine._collection
        collection._client, collection._collection = Watched(collection._client, self.clock), None


KINDS: dict[str, type[Ours]] = {
    "QdrantStore": Qdrant,
    "QdrantStore-indexed": QdrantIndexed,
    "ChromaStore": Chroma,
}


def moved(source: Path, kind: str, target: Path) -> dict[str, Any]:
    """Moves what a QdrantStore holds into a new store, and says how long it took."""
    make: type[HybridStore] = {"QdrantStore": QdrantStore, "ChromaStore": ChromaStore}[kind]
    with QdrantStore("benchmark", path=source) as old, make("benchmark", path=target) as new:  # type: ignore[call-arg]
        start = time.perf_counter()
        written = migrate(old, new)
        seconds = time.perf_counter() - start
        return {"to": kind, "seconds": seconds, "before": old.count(), "written": written, "after": new.count()}
