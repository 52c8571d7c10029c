"""`m3 encode`: texts in a JSON-lines file to vectors in JSON lines or Parquet."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from m3cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    DtypeOption,
    EndpointOption,
    MaxLengthOption,
    MclsOption,
    ModelOption,
    RevisionOption,
    load,
)
from m3cli.targets import completed
from m3core import InvalidInput, M3Output, MissingDependency, Mode
from m3core.records import read_records

Write = Callable[[list[str], M3Output], None]


def encode(
    source: Annotated[Path, typer.Argument(help="JSON lines with _id (or id) and text.")],
    target: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file to write.")],
    model: ModelOption = DEFAULT_MODEL,
    modes: Annotated[str | None, typer.Option(help="Comma-separated; default: all that the model has.")] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    max_length: MaxLengthOption = None,
    mcls: MclsOption = None,
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Encode documents of any number. The target appears when it is complete; memory stays bounded."""
    if target.suffix not in (".jsonl", ".parquet"):
        raise InvalidInput(f"the target must end in .jsonl or .parquet, not {target.name!r}")
    if not target.parent.is_dir() or target.resolve() == source.resolve():
        raise InvalidInput(f"{target} cannot be written: its folder must exist, and it must not be the source")
    if next(read_records(source), None) is None:  # before the model loads
        raise InvalidInput(f"{source} is empty")
    wanted = cast("list[Mode] | None", [m.strip() for m in modes.split(",")] if modes else None)
    encoder = load(model, device, dtype, max_length, endpoint, revision, mcls)
    ids: deque[str] = deque()
    progress = Console(stderr=True).is_terminal
    count = 0
    with completed(target) as partial, _writer(target.suffix, partial) as write:
        for output in encoder.iter_encode(_texts(source, ids), modes=wanted, show_progress=progress):
            write([ids.popleft() for _ in range(len(output))], output)
            count += len(output)
    Console().print(f"{count} texts → {target}", markup=False, highlight=False)


def _texts(source: Path, ids: deque[str]) -> Iterator[str]:
    for record in read_records(source):
        ids.append(record.id)
        yield record.text


@contextmanager
def _writer(suffix: str, path: Path) -> Iterator[Write]:
    if suffix == ".parquet":
        with _parquet_writer(path) as write:
            yield write
        return
    with path.open("w", encoding="utf-8") as file:

        def write(ids: list[str], output: M3Output) -> None:
            for identifier, columns in zip(ids, _rows(output), strict=True):
                file.write(json.dumps({"_id": identifier, **columns}, ensure_ascii=False) + "\n")

        yield write


def _rows(output: M3Output) -> Iterator[dict[str, Any]]:
    for i in range(len(output)):
        row: dict[str, Any] = {}
        if output.dense is not None:
            row["dense"] = output.dense[i].tolist()
        if output.sparse is not None:
            row["sparse"] = output.sparse[i].as_dict()
        if output.multivector is not None:
            row["multivector"] = output.multivector[i].tolist()
        yield row


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Write]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependency("Parquet needs pyarrow: pip install 'm3-retrieval[parquet]'") from error
    writer: Any = None

    def write(ids: list[str], output: M3Output) -> None:
        nonlocal writer
        columns: dict[str, Any] = {"_id": pa.array(ids)}
        if output.dense is not None:
            width = output.dense.shape[1]
            columns["dense"] = pa.FixedSizeListArray.from_arrays(pa.array(output.dense.reshape(-1)), width)
        if output.sparse is not None:
            indices = [v.indices.astype("uint32") for v in output.sparse]
            columns["sparse_indices"] = pa.array(indices, pa.list_(pa.uint32()))
            columns["sparse_values"] = pa.array([v.values for v in output.sparse], pa.list_(pa.float32()))
        if output.multivector is not None:
            rows = [list(m) for m in output.multivector]
            columns["multivector"] = pa.array(rows, pa.list_(pa.list_(pa.float32())))
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
