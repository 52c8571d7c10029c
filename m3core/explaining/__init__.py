"""Why a passage was found: `explain`, and its pictures."""

from m3core.explaining.explanation import Aligned, Explanation, Highlight, Match
from m3core.explaining.pairs import explain, explain_all
from m3core.explaining.pictures import plot_ranks, plot_similarity

__all__ = [
    "Aligned",
    "Explanation",
    "Highlight",
    "Match",
    "explain",
    "explain_all",
    "plot_ranks",
    "plot_similarity",
]
