"""Explanations of hits in a terminal, and as a page."""

from collections.abc import Sequence
from pathlib import Path
from unicodedata import category

from rich.console import Console
from rich.text import Text

from m3cli.options import LABELS, plain_table
from m3core import Explanation
from m3core.explaining.html import Found, page
from m3core.figures import bars
from m3stores import Hit

_BAR = 24  # characters
_MOST = 8  # pairs of tokens


def write_page(
    path: Path, queries: Sequence[str], hits: Sequence[Sequence[Hit]], reasons: Sequence[Sequence[Explanation]]
) -> None:
    """Writes the explanations of all hits of all queries into one file."""
    about = [
        Found(query, why, [hit.id for hit in found]) for query, found, why in zip(queries, hits, reasons, strict=True)
    ]
    path.write_text(page(*about), "utf-8")


def visible(text: str) -> str:
    """A text of the same length in which nothing commands the terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if category(c) == "Cc" and c not in "\n\t" else c for c in text)


def show(console: Console, explanation: Explanation) -> None:
    """Prints one: the passage with what contributes, what each mode adds, and the tokens."""
    shown = Text(visible(explanation.passage))
    for part in explanation.highlights():
        shown.stylize("bold black on yellow" if part.strength > 0.5 else "bold yellow underline", part.start, part.end)
    console.print(Text("\n").join(Text("   ") + line for line in shown.split("\n", allow_blank=True)), soft_wrap=True)
    table = plain_table("   ", "score", "weight", "share", "")
    table.columns[-1].justify = "left"
    lengths = bars(explanation.shares)
    for mode, share in explanation.shares.items():
        bar = "█" * round(lengths[mode] * _BAR)
        weight = f"× {explanation.weights[mode]:g}"
        table.add_row(f"   {LABELS[mode]}", f"{explanation.scores[mode]:.3f}", weight, f"{share:.3f}", bar)
    console.print(table)
    if explanation.matches:
        told = "  ".join(
            f"{match.token} {match.query_weight:.2f}·{match.passage_weight:.2f}"
            for match in explanation.matches[:_MOST]
        )
        console.print(f"   shared tokens: {visible(told)}", markup=False, highlight=False, soft_wrap=True)
    pairs = sorted(explanation.alignments, key=lambda aligned: -aligned.similarity)
    shown_pairs = [
        f"{query}→{passage} {aligned.similarity:.2f}"
        for aligned in pairs
        if (query := explanation.query[slice(*aligned.query)].strip())
        and (passage := explanation.passage[slice(*aligned.passage)].strip())
    ]
    if shown_pairs:
        told = "  ".join(shown_pairs[:_MOST])
        console.print(f"   aligned: {visible(told)}", markup=False, highlight=False, soft_wrap=True)
