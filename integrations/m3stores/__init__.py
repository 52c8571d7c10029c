"""m3stores: collections searched by dense, sparse and multi-vector representations at once. Of no framework.

Start with `QdrantStore`, or with `TextIndex`, which joins an encoder and a store.
"""

from m3core import DBSF, RRF, Record, WeightedSum
from m3stores.collection import Hit, Schema
from m3stores.qdrant import QdrantStore
from m3stores.store import HybridStore
from m3stores.text import TextIndex

__all__ = ["DBSF", "RRF", "Hit", "HybridStore", "QdrantStore", "Record", "Schema", "TextIndex", "WeightedSum"]
