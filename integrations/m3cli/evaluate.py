"""`m3 eval`: how well a model retrieves on judged sets."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from m3cli.fitting import fit
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
from m3core import InvalidInput, evaluation

_Groups = Mapping[str, npt.NDArray[np.bool_]]


def evaluate(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Judged sets in BEIR layout.")],
    model: ModelOption = DEFAULT_MODEL,
    by: Annotated[str | None, typer.Option(help="Also by this key of the queries' metadata, such as kind.")] = None,
    by_length: Annotated[
        bool, typer.Option("--by-length", help="Also by the length of the relevant passage in tokens.")
    ] = False,
    needle: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS",
            help="Also on long documents made from each set, the relevant passage somewhere within: such as 512,2048.",
        ),
    ] = None,
    bm25: Annotated[bool, typer.Option(help="Rank by BM25 as well.")] = True,
    metrics: Annotated[str, typer.Option(help="Comma-separated nDCG@k, MRR@k, Recall@k.")] = ",".join(
        evaluation.METRICS
    ),
    plot: Annotated[Path | None, typer.Option(help="Draw the first metric into this .png, .svg or .pdf file.")] = None,
    fit_weights: Annotated[
        bool,
        typer.Option(
            "--fit-weights",
            help="Find the hybrid's weights on half of the queries, measure them on the others, and store them in the "
            "model's m3.json, if the model is a directory and they are no worse.",
        ),
    ] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    max_length: MaxLengthOption = None,
    mcls: MclsOption = None,
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Measure each mode, the hybrid and BM25 on judged sets, with 95 % bootstrap intervals of the first metric."""
    if plot is not None:
        evaluation.check_plot(plot)
    if fit_weights and Path(model).is_dir():
        evaluation.own_directory(model)
    tokens = _numbers(needle)
    folder_sets = [evaluation.load_beir(folder) for folder in folders]
    encoder = load(model, device, dtype, max_length, endpoint, revision, mcls)
    if fit_weights:
        evaluation.check_fusable(encoder.modes)
    judged_sets = [made for judged in folder_sets for made in _with_needles(judged, tokens, encoder.count_tokens)]
    names = [name.strip() for name in metrics.split(",")]
    console = Console()
    reports: list[evaluation.Report] = []
    lengths: list[_Groups] = []
    for judged in judged_sets:
        progress = Console(stderr=True).is_terminal
        report = evaluation.evaluate(encoder, judged, metrics=names, bm25=bm25, show_progress=progress)
        reports.append(report)
        console.print(_overall(report, names))
        if by:
            console.print(_by_group(report, names[0], f"by {by}", report.groups(by)))
        if by_length:
            lengths.append(evaluation.length_groups(judged, encoder.count_tokens))
            console.print(_by_group(report, names[0], "by tokens of the relevant passage", lengths[-1]))
        console.print()
    if plot is not None:
        evaluation.plot(reports, plot, names[0], lengths=lengths or None)
        console.print(str(plot), markup=False, highlight=False, soft_wrap=True)
    if fit_weights:
        fit(console, model, encoder, reports)


def _numbers(given: str | None) -> list[int]:
    parts = [] if given is None else given.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise InvalidInput(f"--needle takes numbers of tokens between commas, such as 512,2048, not {given!r}")
    return [int(part) for part in parts]


def _with_needles(
    judged: evaluation.JudgedSet, tokens: Sequence[int], count: Callable[[Sequence[str]], Sequence[int]]
) -> list[evaluation.JudgedSet]:
    return [judged, *(evaluation.needle_set(judged, count, tokens=n) for n in tokens)]


def _overall(report: evaluation.Report, metrics: Sequence[str]) -> object:
    judged = report.judged
    size = f"{len(judged.queries.ids)} queries, {len(judged.corpus.ids)} passages"
    table = plain_table(escape(f"{judged.name} ({size})"), metrics[0], "95 %", *metrics[1:])
    for system in report.systems:
        low, high = report.interval(system, metrics[0])
        means = [f"{report.mean(system, name):.3f}" for name in metrics]
        table.add_row(LABELS[system], means[0], f"{low:.3f}–{high:.3f}", *means[1:])
    return table


def _by_group(report: evaluation.Report, metric: str, by: str, groups: _Groups) -> object:
    table = plain_table("", *(LABELS[system] for system in report.systems), title=escape(f"\n{metric} {by}"))
    for label, where in groups.items():
        cells = []
        for system in report.systems:
            low, high = report.interval(system, metric, where=where)
            cells.append(f"{report.mean(system, metric, where=where):.3f} {low:.3f}–{high:.3f}")
        table.add_row(Text(f"{label} ({where.sum()})"), *cells)
    return table
