"""Measuring retrieval on judged sets: BEIR folders, nDCG@10 and the like, a BM25 baseline, bootstrap intervals.

Needs the extra `eval`: `pip install 'm3-retrieval[eval]'`.
"""

from m3core.evaluation.beir import JudgedSet, load_beir
from m3core.evaluation.bm25 import BM25
from m3core.evaluation.metrics import METRICS, bootstrap_interval, measure
from m3core.evaluation.report import Report, evaluate

__all__ = ["BM25", "METRICS", "JudgedSet", "Report", "bootstrap_interval", "evaluate", "load_beir", "measure"]
