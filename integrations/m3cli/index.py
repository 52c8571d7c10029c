"""`m3 index`: a source of any size into a collection."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, cast

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
from m3core.parts import write_json
from m3stores import QdrantSettings, QdrantStore, pipeline
from m3stores.pipeline.sources import files_of

_QDRANT: dict[str, Any] = {"rich_help_panel": "Qdrant"}


def index(
    source: Annotated[
        Path, typer.Argument(help="A file or a folder: JSON lines, Parquet, CSV, plain text, Markdown; or BEIR's.")
    ],
    store: Annotated[str, typer.Option(help="Where to: qdrant: or chroma:, and a directory or a server's url.")],
    collection: CollectionOption = DEFAULT_COLLECTION,
    model: ModelOption = DEFAULT_MODEL,
    modes: Annotated[str | None, typer.Option(help="Comma-separated; default: all that the model has.")] = None,
    tokens: Annotated[
        int | None,
        typer.Option(help="Of a passage at most. Default: 512; records are whole if the model can read them."),
    ] = None,
    overlap: Annotated[int | None, typer.Option(help="Of passages, in tokens. Default: an eighth of them.")] = None,
    text_column: Annotated[str, typer.Option(help="Of a table.")] = "text",
    id_column: Annotated[
        str | None, typer.Option(help="Of a table. Default: _id or id, or else file and line.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of texts and CSV, such as gb18030.")] = "utf-8-sig",
    sync: Annotated[bool, typer.Option("--sync", help="Remove what is not in the source.")] = False,
    rejects: Annotated[
        Path, typer.Option(help="A file for what cannot be used, with reasons; written if there is any.")
    ] = Path("rejects.jsonl"),
    strict: Annotated[bool, typer.Option("--strict", help="Fail if anything was rejected.")] = False,
    bulk: Annotated[
        bool,
        typer.Option("--bulk", help="Build the server's graph once, at the end, and check the count.", **_QDRANT),
    ] = False,
    alias: Annotated[
        str | None, typer.Option(help="Of a server: made to point to the collection when all is there.", **_QDRANT)
    ] = None,
    quantization: Annotated[
        str | None, typer.Option(help="Of a new collection's dense vectors: int8 or turbo4.", **_QDRANT)
    ] = None,
    on_disk: Annotated[
        bool, typer.Option("--on-disk", help="Keep a new collection's vectors on disk.", **_QDRANT)
    ] = False,
    shards: Annotated[int | None, typer.Option(min=1, help="Of a new collection on a server.", **_QDRANT)] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Of each of these shards.", **_QDRANT)] = None,
    report: Annotated[Path | None, typer.Option(help="A JSON file for what was done.")] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    max_length: MaxLengthOption = None,
    mcls: MclsOption = None,
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Split, encode and store a source. Run again, it goes on where it stopped, and takes what is new or changed."""
    files_of(source)  # before the model loads
    wanted = cast("list[Mode] | None", [m.strip() for m in modes.split(",")] if modes else None)
    settings = QdrantSettings(
        quantization=cast("Literal['int8', 'turbo4'] | None", quantization),
        on_disk=on_disk,
        shards=shards,
        replicas=replicas,
    )
    if not store.startswith("qdrant:") and (bulk or alias is not None or settings != QdrantSettings()):
        raise InvalidInput(
            "--bulk, --alias, --quantization, --on-disk, --shards and --replicas are for a store at qdrant:…"
        )
    show_progress = Console(stderr=True).is_terminal
    with open_store(store, collection, settings=settings) as target:
        qdrant = target if isinstance(target, QdrantStore) else None
        if qdrant and alias is not None:
            qdrant.aliased(alias)  # what would be refused in the end is refused now
        encoder = load(model, device, dtype, max_length, endpoint, revision, mcls)
        with qdrant.bulk_load(show_progress=show_progress) if qdrant and bulk else nullcontext():
            summary = pipeline.index(
                source,
                encoder,
                target,
                modes=wanted,
                text_column=text_column,
                id_column=id_column,
                encoding=encoding,
                tokens=tokens,
                overlap=overlap,
                sync=sync,
                exact=bulk or alias is not None,
                rejects=rejects,
                show_progress=show_progress,
            )
        held = f"{target.count()} in collection {collection!r} ({', '.join(target.modes)})"
        if qdrant and alias is not None and not (strict and summary.rejected):
            former = qdrant.point_alias(alias)
            held += f"\nalias {alias!r} points to it; before: {former or 'nothing'}"
    if report is not None:
        write_json(report, summary.report())
    console = Console()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say(
        f"{summary.documents} documents, {summary.passages} passages → {store}: {summary.encoded} encoded "
        f"({summary.rate:.1f}/s), {summary.unchanged} unchanged, {summary.removed} removed"
    )
    for reject in summary.rejects:
        say(f"rejected: {reject.reason}")
    if summary.rejected:
        say(f"{summary.rejected} rejected, listed in {rejects}" + ("; nothing was removed for --sync" if sync else ""))
    say(held)
    if strict and summary.rejected:
        raise typer.Exit(1)
