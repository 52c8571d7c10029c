"""Measuring retrieval on judged sets: BEIR folders, nDCG@10 and the like, a BM25 baseline, bootstrap intervals.

Needs the extra `eval`: `pip install 'm3-retrieval[eval]'`. `m3core.evaluation.mteb` runs MTEB, with the extra `mteb`.
"""

from m3core.evaluation.beir import JudgedSet, load_beir
from m3core.evaluation.bm25 import BM25
from m3core.evaluation.candidates import Candidates
from m3core.evaluation.fusion import WeightFit, check_fusable, fit_weights
from m3core.evaluation.lengths import length_groups
from m3core.evaluation.metrics import METRICS, bootstrap_interval, measure
from m3core.evaluation.needles import needle_set
from m3core.evaluation.plotting import plot
from m3core.evaluation.report import Report, evaluate
from m3core.evaluation.storing import own_directory, store_weights
from m3core.figures import check_plot

__all__ = [
    "BM25",
    "METRICS",
    "Candidates",
    "JudgedSet",
    "Report",
    "WeightFit",
    "bootstrap_interval",
    "check_fusable",
    "check_plot",
    "evaluate",
    "fit_weights",
    "length_groups",
    "load_beir",
    "measure",
    "needle_set",
    "own_directory",
    "plot",
    "store_weights",
]
