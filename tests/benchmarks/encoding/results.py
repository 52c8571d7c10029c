"""What the encoder benchmark has measured, and ratios of it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Rounds = dict[int, float]  # by the number of the round


class Spread(NamedTuple):
    """A number over rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, rounds: Rounds) -> "Spread | None":
        """Over these; `None` if there are none."""
        values = list(rounds.values())
        return cls(float(np.median(values)), min(values), max(values)) if values else None


@dataclass
class Measured:
    """What was measured of a system.

    Attributes:
        name: in the tables.
        ours: whether it is compared, rather than compared with.
        options: what it was made with.
        versions: of its packages.
        rounds: by number: `start` as `Worker.start`; `cells`, by workload and modes as in `"chunks/three"`, what the
            worker said of each; `memory`, the peak after the passages in bytes.
        full: the peak for documents as long as the model takes them, in a process of its own.
        agreement: as from `agreement.compare`.
        failed: why it was not measured any more.
    """

    name: str
    ours: bool
    options: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    rounds: dict[int, dict[str, Any]] = field(default_factory=dict)
    full: int | None = None
    agreement: dict[str, float] = field(default_factory=dict)
    failed: str | None = None

    def of_cells(self, cell: str, what: Callable[[dict[str, Any]], float]) -> Rounds:
        """Something of one cell, by round."""
        return {turn: what(r["cells"][cell]) for turn, r in self.rounds.items() if cell in r["cells"]}

    def seconds(self, cell: str) -> Rounds:
        """Wall-clock time of a cell."""
        return self.of_cells(cell, lambda taken: taken["seconds"])

    def processor_seconds(self, cell: str) -> Rounds:
        """Processor time of a cell."""
        return self.of_cells(cell, lambda taken: taken["processor_seconds"])

    def percentile(self, cell: str, percent: float) -> Rounds:
        """Milliseconds of a query."""
        return self.of_cells(cell, lambda taken: float(np.percentile(taken["milliseconds"], percent)))

    def started(self, what: str) -> Rounds:
        """Seconds of the start."""
        return {turn: r["start"][what] for turn, r in self.rounds.items()}

    def memory(self) -> Rounds:
        """The peak after the passages in bytes."""
        return {turn: r["memory"] for turn, r in self.rounds.items() if "memory" in r}

    def widest(self, workload: str) -> str | None:
        """The cell of a workload with most modes."""
        cells = [cell for r in self.rounds.values() for cell in r["cells"] if cell.startswith(f"{workload}/")]
        return max(cells, key=len_of_modes, default=None)

    def others(self) -> float | None:
        """The largest share of the machine that other processes took during a measurement."""
        return max((t["others"] for r in self.rounds.values() for t in r["cells"].values()), default=None)


@dataclass
class Results:
    """Everything.

    Attributes:
        conditions: what the numbers depend on.
        systems: by key, in the order of the tables.
        left_out: why a system was not measured, by its name.
    """

    conditions: dict[str, Any]
    systems: dict[str, Measured] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Results":
        """From a file that `write` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        systems = {}
        for key, about in content["systems"].items():
            about["rounds"] = {int(turn): taken for turn, taken in about["rounds"].items()}
            systems[key] = Measured(**about)
        return cls(content["conditions"], systems, content["left_out"])

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    def ours(self) -> dict[str, Measured]:
        """Those that are compared."""
        return {key: m for key, m in self.systems.items() if m.ours and m.rounds}

    def peers(self) -> dict[str, Measured]:
        """Those that ours are compared with."""
        return {key: m for key, m in self.systems.items() if not m.ours and m.rounds}

    def rate(self, measured: Measured, workload: str, modes: str) -> Rounds:
        """Texts a second."""
        texts = self.conditions["workloads"][workload]["texts"]
        return {turn: texts / seconds for turn, seconds in measured.seconds(f"{workload}/{modes}").items()}

    def best(self, among: dict[str, Measured] | None = None) -> Measured | None:
        """The one with the highest median throughput of passages in all its modes; of ours, if not told."""
        rated = []
        for measured in (self.ours() if among is None else among).values():
            cell = measured.widest("chunks")
            if cell and (spread := Spread.of(measured.seconds(cell))):
                rated.append((spread.median, measured))
        return min(rated, key=lambda pair: pair[0], default=(0, None))[1]


def len_of_modes(cell: str) -> int:
    """How many modes a cell's name says."""
    modes = cell.split("/")[1]
    return 3 if modes == "three" else 1 + modes.count("+")


def ratio(a: Rounds, b: Rounds) -> Spread | None:
    """Of two measurements, within each round that has both."""
    return Spread.of({turn: a[turn] / b[turn] for turn in a.keys() & b.keys()})
