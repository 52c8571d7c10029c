"""`m3 index`: a source of any size into a collection."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

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
from m3cli.sources import (
    EncodingOption,
    IdColumnOption,
    ModesOption,
    OverlapOption,
    RayOption,
    RejectsOption,
    ReportOption,
    SourceArgument,
    StrictOption,
    TextColumnOption,
    TokensOption,
    chosen,
    shows_progress,
    tell,
)
from m3core import InvalidInput
from m3stores import QdrantSettings, QdrantStore, pipeline
from m3stores.pipeline.sources import files_of

_QDRANT: dict[str, Any] = {"rich_help_panel": "Qdrant"}


def index(
    source: SourceArgument,
    store: Annotated[str, typer.Option(help="Where to: qdrant: or chroma:, and a directory or a server's url.")],
    collection: CollectionOption = DEFAULT_COLLECTION,
    model: ModelOption = DEFAULT_MODEL,
    modes: ModesOption = None,
    tokens: TokensOption = None,
    overlap: OverlapOption = None,
    text_column: TextColumnOption = "text",
    id_column: IdColumnOption = None,
    encoding: EncodingOption = "utf-8-sig",
    sync: Annotated[bool, typer.Option("--sync", help="Remove what is not in the source.")] = False,
    from_encoded: Annotated[
        bool, typer.Option("--from-encoded", help="SOURCE is a folder of m3 encode: no model is needed.")
    ] = False,
    rejects: RejectsOption = Path("rejects.jsonl"),
    strict: StrictOption = False,
    ray: RayOption = None,
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
    report: ReportOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    max_length: MaxLengthOption = None,
    mcls: MclsOption = None,
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Split, encode and store a source. Run again, it goes on where it stopped, and takes what is new or changed."""
    if from_encoded and (sync or any(given is not None for given in (ray, tokens, overlap, id_column, device, mcls))):
        raise InvalidInput(
            "--from-encoded stores what was encoded: leave out --sync, --ray, and what is about reading and encoding"
        )
    if not from_encoded:
        files_of(source)  # before the model loads
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
    exact = bulk or alias is not None
    wanted, show_progress = chosen(modes), shows_progress()
    with open_store(store, collection, settings=settings) as target:
        qdrant = target if isinstance(target, QdrantStore) else None
        if qdrant and alias is not None:
            qdrant.aliased(alias)  # what would be refused in the end is refused now
        encoder = None if from_encoded else load(model, device, dtype, max_length, endpoint, revision, mcls)
        with qdrant.bulk_load(show_progress=show_progress) if qdrant and bulk else nullcontext():
            if encoder is None:
                summary = pipeline.load(
                    source, target, modes=wanted, exact=exact, rejects=rejects, show_progress=show_progress
                )
            else:
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
                    exact=exact,
                    rejects=rejects,
                    ray=ray,
                    show_progress=show_progress,
                )
        held = f"{target.count()} in collection {collection!r} ({', '.join(target.modes)})"
        if qdrant and alias is not None and not (strict and summary.rejected):
            former = qdrant.point_alias(alias)
            held += f"\nalias {alias!r} points to it; before: {former or 'nothing'}"
    tell(
        summary,
        store,
        report=report,
        rejects=rejects,
        strict=strict,
        also=held,
        sync=sync,
        done="stored" if from_encoded else "encoded",
    )
