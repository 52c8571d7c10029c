"""m3stores: collections searched by dense, sparse and multi-vector representations at once. Of no framework.

Start with `QdrantStore` or `ChromaStore`, or with `TextIndex`, which joins an encoder and a store.
"""

from m3core import DBSF, RRF, Record, WeightedSum
from m3stores.chroma import ChromaStore
from m3stores.collection import Hit, Page, Schema
from m3stores.migrating import migrate
from m3stores.qdrant import QdrantSettings, QdrantStore
from m3stores.store import HybridStore
from m3stores.text import TextIndex

__all__ = [
    "DBSF",
    "RRF",
    "ChromaStore",
    "Hit",
    "HybridStore",
    "Page",
    "QdrantSettings",
    "QdrantStore",
    "Record",
    "Schema",
    "TextIndex",
    "WeightedSum",
    "migrate",
]
