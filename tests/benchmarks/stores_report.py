"""The tables of the store benchmark."""

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from stores_data import WORKLOADS
from stores_systems import Measured

Recalls = dict[str, dict[str, float | None]]


def show(
    console: Console, records: int, measured: dict[str, Measured], recalls: Recalls, moves: list[dict[str, Any]]
) -> None:
    """Prints all tables that there is something for."""
    console.print(_writing(records, measured))
    console.print(_serving(measured))
    console.print(_queries(measured))
    console.print(_recall(recalls))
    watched = {name: held for name, held in measured.items() if held.all("hybrid", "inside")}
    if watched:
        console.print(_layer(watched, records))
    if moves:
        console.print(_moves(records, moves))


def _writing(records: int, measured: dict[str, Measured]) -> Table:
    columns = ("records/s", "MB on disk", "MB of memory added", "of which own", "optimize s", "others")
    table = Table("system", *columns, title="Writing all records, 1,000 at a time", title_justify="left")
    for name, held in measured.items():
        memory = held.ingest["memory"]
        table.add_row(
            name,
            f"{records / held.ingest['seconds']:.0f}",
            f"{held.disk / 1e6:.0f}",
            *(f"{memory[what] / 1e6:.0f}" for what in ("all", "own")),
            f"{held.optimize['seconds']:.1f}" if held.optimize else "–",
            f"{held.others():.0%}",
        )
    return table


def _serving(measured: dict[str, Measured]) -> Table:
    columns = ("open s", "first query ms", "MB of memory added", "of which own")
    table = Table("system", *columns, title="Opening it in a new process, and queries", title_justify="left")
    for name, held in measured.items():
        memory = held.quit["memory"]
        table.add_row(
            name,
            f"{held.open['seconds']:.2f}",
            f"{held.open['first_query']:.1f}",
            *(f"{memory[what] / 1e6:.0f}" for what in ("all", "own")),
        )
    return table


def _queries(measured: dict[str, Measured]) -> Table:
    title = "Milliseconds a query, p50 / p95; in brackets how many, where time was short"
    table = Table("system", *WORKLOADS.values(), title=title, title_justify="left")
    most = max(len(held.all(workload, "milliseconds")) for held in measured.values() for workload in WORKLOADS)
    for name, held in measured.items():
        table.add_row(name, *(_percentiles(held.all(workload, "milliseconds"), most) for workload in WORKLOADS))
    return table


def _percentiles(milliseconds: list[float], most: int) -> str:
    if not milliseconds:
        return "–"
    p50, p95 = np.percentile(milliseconds, [50, 95])
    digits = 2 if p50 < 10 else 1 if p50 < 100 else 0
    few = f" ({len(milliseconds)})" if len(milliseconds) < most else ""
    return f"{p50:.{digits}f} / {p95:.{digits}f}{few}"


def _recall(recalls: Recalls) -> Table:
    table = Table("system", *WORKLOADS.values(), title="Recall of the exact best 10", title_justify="left")
    for name, shares in recalls.items():
        found = [shares.get(workload) for workload in WORKLOADS]
        table.add_row(name, *("–" if share is None else f"{share:.3f}" for share in found))
    return table


def _layer(measured: dict[str, Measured], records: int) -> Table:
    title = "Our layer: milliseconds outside the engine, p50, of what a query takes; and calls of the engine"
    names = [*WORKLOADS.values(), "writing a record"]
    table = Table("system", *names, title=title, title_justify="left")
    for name, held in measured.items():
        cells = []
        for workload in WORKLOADS:
            total, inside = (np.array(held.all(workload, what)) for what in ("milliseconds", "inside"))
            calls = np.median(held.all(workload, "calls"))
            cells.append(f"{np.median(total - inside):.2f} of {np.median(total):.2f}; {calls:.0f}")
        seconds, within = held.ingest["seconds"], held.ingest["inside"]
        cells.append(f"{1000 * (seconds - within) / records:.3f} of {1000 * seconds / records:.3f}")
        table.add_row(name, *cells)
    return table


def _moves(records: int, moves: list[dict[str, Any]]) -> Table:
    title = "migrate, from QdrantStore"
    table = Table("to", "records/s", "before", "written", "after", "MB on disk", title=title, title_justify="left")
    for move in moves:
        counts = (str(move[what]) for what in ("before", "written", "after"))
        table.add_row(move["to"], f"{records / move['seconds']:.0f}", *counts, f"{move['disk'] / 1e6:.0f}")
    return table
