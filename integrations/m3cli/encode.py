"""`m3 encode`: a source of any size to vectors in files."""

from pathlib import Path
from typing import Annotated

import typer

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
from m3stores import pipeline
from m3stores.pipeline.encoding import check_target
from m3stores.pipeline.sources import files_of


def encode(
    source: SourceArgument,
    target: Annotated[Path, typer.Argument(help="A .parquet folder, for m3 index --from-encoded, or a .jsonl file.")],
    model: ModelOption = DEFAULT_MODEL,
    modes: ModesOption = None,
    tokens: TokensOption = None,
    overlap: OverlapOption = None,
    text_column: TextColumnOption = "text",
    id_column: IdColumnOption = None,
    encoding: EncodingOption = "utf-8-sig",
    rejects: RejectsOption = Path("rejects.jsonl"),
    strict: StrictOption = False,
    ray: RayOption = None,
    report: ReportOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    max_length: MaxLengthOption = None,
    mcls: MclsOption = None,
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Split and encode a source into files. Run again, it goes on where it stopped, if they are Parquet."""
    files_of(source)  # before the model loads
    check_target(target, source)
    summary = pipeline.encode(
        source,
        load(model, device, dtype, max_length, endpoint, revision, mcls),
        target,
        modes=chosen(modes),
        text_column=text_column,
        id_column=id_column,
        encoding=encoding,
        tokens=tokens,
        overlap=overlap,
        rejects=rejects,
        ray=ray,
        show_progress=shows_progress(),
    )
    tell(summary, str(target), report=report, rejects=rejects, strict=strict)
