"""What several commands share: how to choose a model, and how tables look."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from m3core import InvalidInput, M3Encoder
from m3core.figures import LOOKS
from m3stores import ChromaStore, HybridStore, QdrantSettings, QdrantStore

ModelOption = Annotated[
    str, typer.Option("--model", "-m", envvar="M3_MODEL", help="Hub id, directory, or m3-mini (bundled).")
]
DeviceOption = Annotated[str | None, typer.Option(help="Such as cpu, cuda:1, mps. Default: the best there is.")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or, with OpenVINO, int8.")]
MaxLengthOption = Annotated[int | None, typer.Option(help="Cut texts at so many tokens. Default: the model's limit.")]
MclsOption = Annotated[
    int | None, typer.Option(help="A CLS token before every so many tokens, such as 256, and their mean for dense.")
]
EndpointOption = Annotated[str | None, typer.Option(help="Address of a model hub or mirror.")]
CollectionOption = Annotated[str, typer.Option(help="The collection's name in the store.")]
RevisionOption = Annotated[str | None, typer.Option(help="Hub branch, tag or commit.")]

DEFAULT_MODEL = "BAAI/bge-m3"
DEFAULT_COLLECTION = "documents"
LABELS = {system: label for system, (label, _) in LOOKS.items()}


def load(
    model: str,
    device: str | None,
    dtype: str,
    max_length: int | None = None,
    endpoint: str | None = None,
    revision: str | None = None,
    mcls: int | None = None,
) -> M3Encoder:
    """The encoder that the options ask for."""
    return M3Encoder(
        model, device=device, dtype=dtype, max_length=max_length, endpoint=endpoint, revision=revision, mcls=mcls
    )


def open_store(
    address: str, collection: str, *, new: bool = True, settings: QdrantSettings | None = None
) -> HybridStore:
    """The store at an address such as `qdrant:./index`; unless it may be `new`, its directory must exist.

    Args:
        address: as `--store` gives it.
        collection: its name.
        new: whether it may be made.
        settings: of a new collection in Qdrant.
    """
    kind, _, place = address.partition(":")
    if kind not in ("qdrant", "chroma") or not place:
        raise InvalidInput(
            f"a store is qdrant: or chroma: and a directory or a server's url, such as qdrant:./index or "
            f"qdrant:http://localhost:6333, not {address!r}"
        )
    if place.startswith(("http://", "https://")):
        if kind == "chroma":
            return ChromaStore(collection, url=place)
        return QdrantStore(collection, url=place, api_key=os.environ.get("QDRANT_API_KEY"), settings=settings)
    if not new and not Path(place).is_dir():
        raise InvalidInput(f"there is no directory {place}: m3 index makes one")
    if kind == "chroma":
        return ChromaStore(collection, path=place)
    return QdrantStore(collection, path=place, settings=settings)


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table without a frame: text columns to the left, the rest to the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table
