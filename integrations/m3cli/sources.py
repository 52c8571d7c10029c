"""What the commands share that read a source: its options, and what they say in the end."""

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from m3core import Mode
from m3core.parts import write_json
from m3stores.pipeline import Summary

SourceArgument = Annotated[
    Path,
    typer.Argument(
        help="A file or a folder: JSON lines, Parquet, CSV, plain text, Markdown, HTML, also as .txt.gz, .md.gz, "
        ".html.gz; or BEIR's."
    ),
]
ModesOption = Annotated[str | None, typer.Option(help="Comma-separated; default: all that the model has.")]
TokensOption = Annotated[
    int | None, typer.Option(help="Of a passage at most. Default: 512; records are whole if the model can read them.")
]
OverlapOption = Annotated[int | None, typer.Option(help="Of passages, in tokens. Default: an eighth of them.")]
TextColumnOption = Annotated[str, typer.Option(help="Of a table.")]
IdColumnOption = Annotated[str | None, typer.Option(help="Of a table. Default: _id or id, or else file and line.")]
EncodingOption = Annotated[
    str, typer.Option(help="Of texts and CSV, such as gb18030, and of pages that do not say theirs.")
]
RejectsOption = Annotated[
    Path, typer.Option(help="A file for what cannot be used, with reasons; written if there is any.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Fail if anything was rejected.")]
RayOption = Annotated[
    str | None, typer.Option(help="Encode on a Ray cluster: local starts one here, auto or host:port joins one.")
]
ReportOption = Annotated[
    Path | None, typer.Option(help="A JSON file for what was done.", dir_okay=False, writable=True)
]


def chosen(modes: str | None) -> list[Mode] | None:
    """The modes that `--modes` names."""
    return cast("list[Mode] | None", [mode.strip() for mode in modes.split(",")] if modes else None)


def shows_progress() -> bool:
    """Whether anybody would see a progress bar."""
    return Console(stderr=True).is_terminal


def tell(
    summary: Summary,
    target: str,
    *,
    report: Path | None,
    rejects: Path,
    strict: bool,
    also: str = "",
    sync: bool = False,
    done: str = "encoded",
) -> None:
    """Says what was done.

    Args:
        summary: of it.
        target: where it went.
        report: the file for all of it.
        rejects: the file with what could not be used.
        strict: whether that is a failure.
        also: what there is to say in the end.
        sync: whether what is not in the source was to be removed.
        done: to passages that were not there.

    Raises:
        Exit: for a failure, with 1.
    """
    if report is not None:
        write_json(report, summary.report())
    console = Console()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say(
        f"{summary.documents} documents, {summary.passages} passages → {target}: {summary.encoded} {done} "
        f"({summary.rate:.1f}/s), {summary.unchanged} unchanged, {summary.removed} removed"
    )
    for reject in summary.rejects:
        say(f"rejected: {reject.reason}")
    if summary.rejected:
        say(f"{summary.rejected} rejected, listed in {rejects}" + ("; nothing was removed for --sync" if sync else ""))
    if also:
        say(also)
    if strict and summary.rejected:
        raise typer.Exit(1)
