"""`m3 eval`: how well a model retrieves on judged sets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from m3cli.options import (
    DEFAULT_MODEL,
    LABELS,
    DeviceOption,
    DtypeOption,
    EndpointOption,
    MaxLengthOption,
    MclsOption,
    ModelOption,
    RevisionOption,
    load,
    plain_table,
)
from m3core import evaluation


def evaluate(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Judged sets in BEIR layout.")],
    model: ModelOption = DEFAULT_MODEL,
    by: Annotated[str | None, typer.Option(help="Also by this key of the queries' metadata, such as kind.")] = None,
    bm25: Annotated[bool, typer.Option(help="Rank by BM25 as well.")] = True,
    metrics: Annotated[str, typer.Option(help="Comma-separated nDCG@k, MRR@k, Recall@k.")] = ",".join(
        evaluation.METRICS
    ),
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    max_length: MaxLengthOption = None,
    mcls: MclsOption = None,
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Measure each mode, the hybrid and BM25 on judged sets, with 95 % bootstrap intervals of the first metric."""
    judged_sets = [evaluation.load_beir(folder) for folder in folders]
    encoder = load(model, device, dtype, max_length, endpoint, revision, mcls)
    names = [name.strip() for name in metrics.split(",")]
    console = Console()
    for judged in judged_sets:
        progress = Console(stderr=True).is_terminal
        report = evaluation.evaluate(encoder, judged, metrics=names, bm25=bm25, show_progress=progress)
        size = f"{len(judged.queries.ids)} queries, {len(judged.corpus.ids)} passages"
        table = plain_table(escape(f"{judged.name} ({size})"), names[0], "95 %", *names[1:])
        for system in report.systems:
            low, high = report.interval(system, names[0])
            means = [f"{report.mean(system, name):.3f}" for name in names]
            table.add_row(LABELS[system], means[0], f"{low:.3f}–{high:.3f}", *means[1:])
        console.print(table)
        if by:
            console.print(_by_group(report, names[0], by))
        console.print()


def _by_group(report: evaluation.Report, metric: str, key: str) -> object:
    table = plain_table(escape(f"\n{metric} by {key}"), *(LABELS[system] for system in report.systems))
    for label, where in report.groups(key).items():
        cells = []
        for system in report.systems:
            low, high = report.interval(system, metric, where=where)
            cells.append(f"{report.mean(system, metric, where=where):.3f} ({low:.3f}–{high:.3f})")
        table.add_row(Text(f"{label} ({where.sum()})"), *cells)
    return table
