"""Pictures of an explanation and of a ranking."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from m3core.errors import InvalidInput, UnsupportedMode
from m3core.explaining.explanation import Explanation, Span
from m3core.figures import LOOKS, drawn
from m3core.output import MODES, Mode

_CELL = 0.3  # inches
_MOST = 120  # tokens of a side
_TICKS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
_LETTERS = 40  # of a label


def plot_similarity(explanation: Explanation, path: str | Path) -> None:
    """Draws which token of the query finds which of the passage: the similarity of all of them, as a heat map.

    The one that MaxSim takes for each token of the query is framed. A passage of more than 120 tokens is drawn as far
    as that.

    Args:
        explanation: of a model with multi-vectors.
        path: a .png, .svg or .pdf file.

    Raises:
        UnsupportedMode: the model has no multi-vectors.
        MissingDependency: matplotlib is not installed.
        InvalidInput: the file has another ending, or its folder does not exist.
    """
    if explanation.similarity is None:
        raise UnsupportedMode("only a model with multi-vectors aligns tokens; this one has none")
    shown = explanation.similarity[:_MOST, :_MOST]
    rows, columns = shown.shape
    with drawn(path, 2.5 + _CELL * columns, 1.2 + _CELL * rows) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(shown, cmap="viridis", vmin=min(0.0, float(shown.min())), vmax=1.0, aspect="auto")
        axes.set_xticks(range(columns), _labels(explanation.passage, explanation.passage_spans[:columns]), rotation=90)
        axes.set_yticks(range(rows), _labels(explanation.query, explanation.query_spans[:rows]))
        for row, column in enumerate(explanation.similarity[:rows].argmax(axis=1).tolist()):
            if column < columns:
                axes.plot(column, row, marker="s", markersize=12, markerfacecolor="none", markeredgecolor="#D55E00")
        axes.set_xlabel("passage")
        axes.set_ylabel("query")
        figure.colorbar(image, ax=axes, label="similarity", shrink=0.8)


def plot_ranks(
    labels: Sequence[str], ranks: Sequence[Mapping[Mode, int]], path: str | Path, *, title: str = ""
) -> None:
    """Draws at which rank each mode has the passages that a search found, beside the rank by all of them.

    ```python
    plot_ranks([hit.id for hit in hits], [hit.ranks for hit in hits], "ranks.png", title=query)
    ```

    Args:
        labels: of the passages, the best first.
        ranks: of each, by mode, from 1.
        path: a .png, .svg or .pdf file.
        title: over the picture.

    Raises:
        InvalidInput: no passages, or not as many labels as ranks; or as `plot_similarity`.
        MissingDependency: matplotlib is not installed.
    """
    if not labels or len(labels) != len(ranks):
        raise InvalidInput(f"a plot of ranks takes passages, and a label for each: not {len(ranks)} and {len(labels)}")
    modes = [mode for mode in MODES if all(mode in by_mode for by_mode in ranks)]
    most = max([len(labels), *(by_mode[mode] for by_mode in ranks for mode in modes)])
    with drawn(path, 3.5 + 1.3 * len(modes), 1.5 + 0.35 * len(labels)) as figure:
        axes = figure.add_subplot()
        for place, (label, by_mode) in enumerate(zip(labels, ranks, strict=True), start=1):
            line = [*(by_mode[mode] for mode in modes), place]
            (drawn_line,) = axes.plot(range(len(line)), line, marker="o", linewidth=1.6)
            shown = label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"
            axes.annotate(
                shown,
                (len(modes), place),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=drawn_line.get_color(),
                annotation_clip=False,
                parse_math=False,
            )
        axes.set_xticks(range(len(modes) + 1), [*(LOOKS[mode][0] for mode in modes), "fused"])
        axes.set_yscale("log")
        axes.set_yticks([tick for tick in _TICKS if tick <= most] or [1], minor=False)
        axes.set_yticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:.0f}")
        axes.set_ylim(most * 1.15, 0.85)
        axes.set_ylabel("rank")
        axes.set_title(title, loc="left", fontsize=9, parse_math=False)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)


def _labels(text: str, spans: Sequence[Span]) -> list[str]:
    return ["end" if start == len(text) else text[start:end].replace("$", r"\$") or "·" for start, end in spans]
