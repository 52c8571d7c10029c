"""Training data on disk, checked before the first step: one or several data sets, mapped into memory."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from m3core.errors import InvalidInput, MissingDependency
from m3core.output import FloatArray
from m3core.packing import IntArray
from m3core.train.records import Example, ScoredPair, Source, TrainingRecord, read_examples

if TYPE_CHECKING:
    import datasets

Sources = Source | Iterable[str | Path] | Mapping[str, Any]
"""One source, a list of files or folders, or sources by name; under `train`, with others for the `dev` part."""

LOCAL = "no_in_batch_neg"
"""BGE's name for data in which other queries' passages are no negatives: a `type`, or what a file's name ends in."""

_DEV = ("dev", "validation", "eval", "test")
_WRITTEN = 1000  # records at once


@dataclass(frozen=True, eq=False)
class Part:
    """One data set.

    Attributes:
        name: of its file, or what it was called.
        rows: its records, in Arrow's format on disk.
        sizes: `(n, 3)`: the bytes of UTF-8 of each record's query and one of its positives, how many negatives it has,
            and the bytes of one of them; in the mean.
        scored: whether records are scored pairs.
        taught: whether every record has a teacher's scores.
        local: whether a query's negatives are its own only.
    """

    name: str
    rows: "datasets.Dataset"
    sizes: FloatArray
    scored: bool
    taught: bool
    local: bool

    def __len__(self) -> int:
        return len(self.sizes)

    def lengths(self, negatives: int) -> FloatArray:
        """The bytes `(n,)` of what a batch takes of each record, with so many negatives at most."""
        length = self.sizes[:, 0] + np.minimum(self.sizes[:, 1], negatives) * self.sizes[:, 2]
        return length.astype(np.float32)

    def select(self, indices: IntArray) -> "Part":
        """The part with some of its records alone."""
        return replace(self, rows=self.rows.select(indices), sizes=self.sizes[indices])

    def __getitem__(self, index: int) -> TrainingRecord:
        """A record."""
        row = self.rows[index]
        if self.scored:
            return ScoredPair(row["query"], row["positives"][0], row["scores"][0])
        lists = {name: tuple(row[name]) for name in ("positives", "negatives", "scores")}
        return Example(query=row["query"], prompt=row["prompt"], kind=row["kind"], **lists)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What to train with.

    Attributes:
        parts: the data sets.
        digest: of all records; the same for the same ones in the same order.
    """

    parts: tuple[Part, ...]
    digest: str

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @classmethod
    def write(cls, sources: Mapping[str, Source], folder: Path, *, show_progress: bool = False) -> "TrainingData":
        """Reads sources to their end, and writes their records to files in a folder.

        Args:
            sources: by name.
            folder: where to; it must stay as long as the data is used.
            show_progress: whether to show a progress bar.

        Raises:
            InvalidInput: as `read_examples`.
            MissingDependency: `datasets` is not installed.
        """
        digest = hashlib.sha256()
        with tqdm(desc="reading", unit=" records", disable=not show_progress) as bar:
            parts = [
                _write(name, source, folder / f"{i}.arrow", digest, bar)
                for i, (name, source) in enumerate(sources.items())
            ]
        return cls(tuple(parts), digest.hexdigest()[:16])


def named(dataset: Sources) -> tuple[dict[str, Source], Source | None]:
    """The data sets by name, and what to measure with, if it is among them."""
    dev = None
    if isinstance(dataset, Mapping) and "train" in dataset:
        dev = next((dataset[name] for name in _DEV if name in dataset), None)
        dataset = dataset["train"]
    if isinstance(dataset, Mapping):
        return {str(name): source for name, source in dataset.items()}, dev
    if isinstance(dataset, list | tuple) and dataset and all(isinstance(s, str | Path) for s in dataset):
        return {str(path): path for path in dataset}, dev
    return {str(dataset) if isinstance(dataset, str | Path) else "train": dataset}, dev  # type: ignore[dict-item]


def _write(name: str, source: Source, path: Path, digest: Any, bar: "tqdm[Any]") -> Part:
    try:
        import datasets
        from datasets.arrow_writer import ArrowWriter
    except ImportError as error:
        raise MissingDependency("training needs datasets: pip install 'm3-retrieval[train]'") from error
    text, texts = datasets.Value("string"), datasets.List(datasets.Value("string"))
    columns = {"query": text, "positives": texts, "negatives": texts, "prompt": text, "kind": text}
    features = datasets.Features({**columns, "scores": datasets.List(datasets.Value("float64"))})
    sizes: list[tuple[float, int, float]] = []
    scored = taught = True
    local = Path(name).name.split(".")[0].endswith(LOCAL)
    with ArrowWriter(path=str(path), features=features, writer_batch_size=_WRITTEN) as writer:
        for record in read_examples(source):
            row = _row(record)
            writer.write(row)
            digest.update(json.dumps(row).encode())
            sizes.append(_size(row))
            scored &= isinstance(record, ScoredPair)
            taught &= bool(row["scores"])
            local |= row["kind"] == LOCAL
            bar.update()
        writer.finalize()
    if not sizes:
        raise InvalidInput(f"{name} has no record with a positive passage")
    rows = datasets.Dataset.from_file(str(path))
    return Part(Path(name).name, rows, np.array(sizes, np.float32), scored, taught and not scored, local)


def _row(record: TrainingRecord) -> dict[str, Any]:
    if isinstance(record, ScoredPair):
        empty: dict[str, Any] = {"negatives": [], "prompt": "", "kind": ""}
        return {"query": record.text, "positives": [record.other], "scores": [record.score], **empty}
    lists = {name: list(getattr(record, name)) for name in ("positives", "negatives", "scores")}
    return {"query": record.query, "prompt": record.prompt, "kind": record.kind, **lists}


def _size(row: dict[str, Any]) -> tuple[float, int, float]:
    """See `Part.sizes`."""
    positives, negatives = ([len(text.encode()) for text in row[name]] for name in ("positives", "negatives"))
    one = sum(positives) / len(positives)
    return len(row["query"].encode()) + one, len(negatives), sum(negatives) / max(1, len(negatives))
