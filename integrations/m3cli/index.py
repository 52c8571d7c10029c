"""`m3 index`: a corpus into a collection."""

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from m3cli.options import (
    DEFAULT_COLLECTION,
    DEFAULT_MODEL,
    CollectionOption,
    DeviceOption,
    DtypeOption,
    EndpointOption,
    MaxLengthOption,
    MclsOption,
    ModelOption,
    RevisionOption,
    load,
    open_store,
)
from m3core import InvalidInput, Mode
from m3core.records import read_records
from m3stores import TextIndex


def index(
    folder: Annotated[Path, typer.Argument(help="A folder with corpus.jsonl: {_id, text, title?, metadata?} a line.")],
    store: Annotated[str, typer.Option(help="Where to: qdrant: or chroma:, and a directory or a server's url.")],
    collection: CollectionOption = DEFAULT_COLLECTION,
    model: ModelOption = DEFAULT_MODEL,
    modes: Annotated[str | None, typer.Option(help="Comma-separated; default: all that the model has.")] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    max_length: MaxLengthOption = None,
    mcls: MclsOption = None,
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Encode the passages of a folder and keep them in a store. Run again, it replaces those with the same _id."""
    corpus = folder / "corpus.jsonl"
    total = sum(1 for _ in read_records(corpus))  # finds a bad line before the model loads
    if not total:
        raise InvalidInput(f"{corpus} is empty")
    wanted = cast("list[Mode] | None", [m.strip() for m in modes.split(",")] if modes else None)
    with open_store(store, collection) as target:
        text_index = TextIndex(load(model, device, dtype, max_length, endpoint, revision, mcls), target)
        text_index.add(read_records(corpus), modes=wanted, total=total, show_progress=Console(stderr=True).is_terminal)
        held = f"{target.count()} in collection {collection!r} ({', '.join(target.modes)})"
    Console().print(f"{total} passages → {store}; {held}", markup=False, highlight=False, soft_wrap=True)
