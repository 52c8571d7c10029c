"""The tables of the encoder benchmark, for the terminal and as Markdown."""

from collections.abc import Callable
from dataclasses import dataclass

import rich.table

from encoding.results import Measured, Results, Rounds, Spread, ratio
from encoding.targets import targets
from encoding.workloads import TITLES

_NONE = "–"


@dataclass(frozen=True)
class Table:
    """Cells of text under columns; the first column is the row's name."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def filled(self) -> "Table":
        """Without columns that nobody has something in."""
        kept = [i for i in range(len(self.columns)) if any(row[i] != _NONE for row in self.rows)]
        return Table(self.title, [self.columns[i] for i in kept], [[row[i] for i in kept] for row in self.rows])

    def rich(self) -> rich.table.Table:
        """For a terminal."""
        table = rich.table.Table(*self.columns, title=self.title, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For README.md."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join([f"{self.title}:", "", *(f"| {' | '.join(line)} |" for line in lines)])


def tables(results: Results) -> list[Table]:
    """All that there is something for."""
    found = [_throughput(results), _queries(results), _resources(results), _agreement(results)]
    if results.ours() and results.peers():
        found += _ratios(results)
        if "three" in results.conditions["modes"]:
            found.append(_targets(results))
    filled = [table.filled() for table in found if table.rows]
    return [table for table in filled if len(table.columns) > 1]


def conditions(results: Results) -> list[str]:
    """What the numbers depend on, line by line."""
    about = results.conditions
    lines = [
        f"{about['date']}, {about['processor']}, {about['cores']} cores, {about['threads']} threads a system, Python "
        f"{about['python']}, {about['rounds']} rounds",
        f"Model: {about['shape']}, {about['about']}; {about['layers']} layers, {about['parameters'] / 1e6:.0f} M "
        "parameters",
    ]
    for name, lengths in about["workloads"].items():
        sizes = f"mean {lengths['mean']:.0f}, p90 {lengths['p90']:.0f}, longest {lengths['longest']}"
        lines.append(f"{TITLES[name]}: {lengths['texts']} texts, {lengths['total']} tokens ({sizes})")
    for measured in results.systems.values():
        said = ", ".join(f"{package} {version}" for package, version in measured.versions.items())
        lines.append(f"{measured.name}: {said}" + (f"; failed: {measured.failed}" if measured.failed else ""))
    lines += [f"{name} is left out: {why}" for name, why in results.left_out.items()]
    return lines


def markdown(results: Results) -> str:
    """Conditions and tables."""
    about = "\n".join(f"- {line}" for line in conditions(results))
    return "\n\n".join([about, *(table.markdown() for table in tables(results))]) + "\n"


def _throughput(results: Results) -> Table:
    cells = [
        (workload, modes)
        for workload in results.conditions["workloads"]
        if workload != "queries"
        for modes in (("dense", "dense+sparse", "three") if workload == "chunks" else ("",))
    ]
    columns = [f"{TITLES[workload]}{', ' + modes if modes else ''}" for workload, modes in cells]
    rows = []
    for measured in results.systems.values():
        row = [measured.name]
        for workload, modes in cells:
            asked = modes or (measured.widest(workload) or "/").split("/")[1]
            row.append(_spread(results.rate(measured, workload, asked)))
        rows.append(row)
    return Table("Texts a second; mixture and long documents in all modes that a system has", ["", *columns], rows)


def _queries(results: Results) -> Table:
    modes = ("dense", "dense+sparse", "three")
    rows = []
    for measured in results.systems.values():
        row = [measured.name]
        for name in modes:
            p50, p95 = (Spread.of(measured.percentile(f"queries/{name}", percent)) for percent in (50, 95))
            row.append(f"{_number(p50.median)} / {_number(p95.median)}" if p50 and p95 else _NONE)
        rows.append(row)
    return Table("A short query alone, ms, p50 / p95 (median of the rounds)", ["", *modes], rows)


def _resources(results: Results) -> Table:
    columns = [
        "",
        "import s",
        "start to first answer s",
        "peak memory, chunks GB",
        "the same, 8k documents GB",
        "others",
    ]
    rows = []
    for measured in results.systems.values():
        chunks = Spread.of(measured.memory())
        others = measured.others()
        rows.append(
            [
                measured.name,
                _spread(measured.started("import")),
                _spread(measured.started("seconds")),
                f"{chunks.highest / 1e9:.2f}" if chunks else _NONE,
                f"{measured.full / 1e9:.2f}" if measured.full else _NONE,
                _NONE if others is None else f"{others:.0%}",
            ]
        )
    return Table("Start-up, memory, and the share of the machine that other processes took at most", columns, rows)


def _agreement(results: Results) -> Table:
    columns = ["", "dense, lowest cosine", "sparse, largest difference", "multi-vector, lowest cosine"]
    rows = []
    for measured in results.systems.values():
        shown = (measured.agreement.get(mode) for mode in ("dense", "sparse", "multivector"))
        rows.append([measured.name, *(_NONE if value is None else f"{value:.5f}" for value in shown)])
    return Table("Agreement with m3core in float32", columns, rows)


def _ratios(results: Results) -> list[Table]:
    found = []
    for title, workload, of in (
        ("How many times faster ours encodes RAG chunks", "chunks", Measured.seconds),
        ("The same in processor time", "chunks", Measured.processor_seconds),
        ("How many times faster ours encodes a mixture of all", "mixture", Measured.seconds),
        ("How many times faster ours encodes long documents", "long", Measured.seconds),
        ("How many times faster ours answers a short query, p50", "queries", lambda m, cell: m.percentile(cell, 50)),
    ):
        rows = [
            [f"than {peer.name}", *(_times(mine, peer, workload, of) for mine in results.ours().values())]
            for peer in results.peers().values()
            if peer.widest(workload)
        ]
        columns = ["", *(mine.name for mine in results.ours().values())]
        found.append(Table(f"{title}, each in all modes that it has", columns, rows))
    return found


def _times(mine: Measured, peer: Measured, workload: str, of: Callable[[Measured, str], Rounds]) -> str:
    cells = mine.widest(workload), peer.widest(workload)
    if cells[0] is None or cells[1] is None:
        return _NONE
    return _shown(ratio(of(peer, cells[1]), of(mine, cells[0])))


def _targets(results: Results) -> Table:
    said = {True: "met", False: "missed", None: "not measured"}
    rows = [[t.what, t.versus, t.asked, _shown(t.measured), said[t.met]] for t in targets(results)]
    return Table("Targets", ["", "against", "target", "measured", ""], rows)


def _spread(rounds: Rounds) -> str:
    return _shown(Spread.of(rounds))


def _shown(spread: Spread | None) -> str:
    """As in `12.3 (11.8–12.9)`; a single number of a single round."""
    if spread is None:
        return _NONE
    median, lowest, highest = map(_number, spread)
    return median if spread.lowest == spread.highest else f"{median} ({lowest}–{highest})"


def _number(value: float) -> str:
    """Three digits that say something."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}" if value >= 0.1 else f"{value:.3f}"
