"""Bars of what each system scored, set by set and by length, in a picture."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from m3core.evaluation.report import Report
from m3core.figures import LOOKS, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Groups = Mapping[str, npt.NDArray[np.bool_]]
_Column = tuple[str, Report, npt.NDArray[np.bool_] | None]

_ACROSS = 2  # panels beside each other
_COLUMNS = 5  # groups of bars that fit into one of these
_WIDTH = 9.0  # inches
_INCHES = 1.1  # that a set's bars need at least
_ROOMY = 3  # groups of bars that a panel has room for, however few there are
_LETTERS = 12  # in an inch


def plot(reports: Sequence[Report], path: str | Path, metric: str, *, lengths: Sequence[Groups] | None = None) -> None:
    """Draws the mean of a metric for every set and system, with whiskers for the 95 % bootstrap interval.

    Args:
        reports: one for each set.
        path: ends in one of the `m3core.figures.FORMATS`.
        metric: one that all reports have.
        lengths: for each report its queries by length, from `length_groups`; a set with several lengths then gets a
            panel for itself.

    Raises:
        MissingDependency: as `m3core.figures.check_plot`.
        InvalidInput: as `m3core.figures.check_plot`.
    """
    panels: list[tuple[str, list[_Column]]] = [("", [(one.judged.name, one, None) for one in reports])]
    for one, groups in zip(reports, lengths or [], strict=lengths is not None):
        title = f"{one.judged.name}, by tokens of the relevant passage"
        if len(groups) > 1:
            panels.append((title, [(label, one, where) for label, where in groups.items()]))
    spans = _spans([len(columns) for _, columns in panels])
    rows = 1 + max(row for row, _, _ in spans)
    width = max(_WIDTH, _INCHES * len(reports))
    with drawn(path, width, 0.5 + 2.7 * rows) as figure:
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
        grid = figure.add_gridspec(rows, _ACROSS)
        for (title, columns), (row, start, stop) in zip(panels, spans, strict=True):
            axes = figure.add_subplot(grid[row, start:stop])
            _draw(axes, columns, metric, letters=int(_LETTERS * width * (stop - start) / _ACROSS / len(columns)))
            axes.set_title(title, loc="left", fontsize=9)
        bars, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(bars, labels, loc="outside upper left", ncols=len(labels), frameon=False)


def _spans(sizes: Sequence[int]) -> list[tuple[int, int, int]]:
    """Where panels go, row by row: the row, the first column and the one behind the last. Wide ones take a row."""
    spans: list[tuple[int, int, int]] = []
    row, column = 0, 0
    for i, size in enumerate(sizes):
        width = _ACROSS if i == 0 or size > _COLUMNS else 1
        if column + width > _ACROSS:
            row, column = row + 1, 0
        spans.append((row, column, column + width))
        column += width
    return spans


def _draw(axes: "Axes", columns: Sequence[_Column], metric: str, *, letters: int) -> None:
    systems = list(dict.fromkeys(system for _, one, _ in columns for system in one.systems))
    width = 0.8 / len(systems)
    for i, system in enumerate(systems):
        label, colour = LOOKS[system]
        at = [j for j, (_, one, _) in enumerate(columns) if system in one.systems]
        means = np.array([columns[j][1].mean(system, metric, where=columns[j][2]) for j in at])
        ends = np.array([columns[j][1].interval(system, metric, where=columns[j][2]) for j in at])
        whiskers = np.maximum(0.0, [means - ends[:, 0], ends[:, 1] - means])
        places = np.array(at) + (i - (len(systems) - 1) / 2) * width
        axes.bar(
            places,
            means,
            width * 0.92,
            label=label,
            color=colour,
            yerr=whiskers,
            error_kw={"elinewidth": 0.9, "ecolor": "#333333", "capsize": min(2.5, 9 / len(columns))},
        )
    counts = [len(one.judged.queries.ids) if where is None else int(where.sum()) for _, one, where in columns]
    names = [_broken(name, letters) for name, _, _ in columns]
    axes.set_xticks(range(len(columns)), [f"{name}\n{n} queries" for name, n in zip(names, counts, strict=True)])
    margin = 0.6 + max(0, _ROOMY - len(columns)) / 2
    axes.set_xlim(-margin, len(columns) - 1 + margin)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel(metric)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _broken(name: str, letters: int) -> str:
    """A name in lines of about so many letters, broken at its hyphens."""
    lines = [""]
    for part in re.split("(?<=-)", name):
        if lines[-1] and len(lines[-1] + part) > letters:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
