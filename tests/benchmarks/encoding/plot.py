"""The picture of the encoder benchmark."""

import sys
from collections.abc import Callable
from pathlib import Path

from encoding.results import Measured, Results, Spread

_OURS, _PEERS = "#1b7837", "#8c96a8"


def check() -> None:
    """Ends the program if it cannot draw, before hours are spent on measuring."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        sys.exit("--plot needs matplotlib: pip install matplotlib")


def draw(results: Results, path: Path) -> None:
    """Writes a PNG: throughput of RAG chunks, time of a short query, and memory, of each system in all its modes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    def throughput(measured: Measured) -> Spread | None:
        cell = measured.widest("chunks")
        return Spread.of(results.rate(measured, *cell.split("/"))) if cell else None

    def latency(measured: Measured) -> Spread | None:
        cell = measured.widest("queries")
        return Spread.of(measured.percentile(cell, 50)) if cell else None

    def memory(measured: Measured) -> Spread | None:
        peaks = {0: float(measured.full)} if measured.full else measured.memory()
        return Spread.of({turn: peak / 1e9 for turn, peak in peaks.items()})

    full = any(measured.full for measured in results.systems.values())
    panels: list[tuple[str, Callable[[Measured], Spread | None]]] = [
        ("RAG chunks, passages/s", throughput),
        ("a short query alone, ms (p50)", latency),
        (f"peak memory, {'8k documents' if full else 'chunks'}, GB", memory),
    ]
    shown = [measured for measured in results.systems.values() if throughput(measured) or latency(measured)]
    shown.sort(key=lambda measured: ((spread := throughput(measured)) and spread.median) or 0.0)
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 1.6 + 0.36 * len(shown)), sharey=True)
    colours = [_OURS if measured.ours else _PEERS for measured in shown]
    for axis, (title, of) in zip(axes, panels, strict=True):
        spreads = [of(measured) or Spread(0.0, 0.0, 0.0) for measured in shown]
        medians = [spread.median for spread in spreads]
        errors = [[s.median - s.lowest for s in spreads], [s.highest - s.median for s in spreads]]
        axis.barh(range(len(shown)), medians, color=colours, xerr=errors, ecolor="#333333", capsize=2)
        for row, spread in enumerate(spreads):
            if spread.highest:
                axis.annotate(
                    f"{spread.median:.3g}",
                    (spread.highest, row),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                )
        axis.set_title(title, fontsize=11)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(shown)), [_label(measured) for measured in shown])
    about = results.conditions
    figure.suptitle(f"{about['shape']}, {about['layers']} layers; {about['processor']}, {about['threads']} threads")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def _label(measured: Measured) -> str:
    modes = ((measured.widest("chunks") or measured.widest("queries") or "/").split("/"))[1]
    return f"{measured.name}; {'three modes' if modes == 'three' else modes}"
