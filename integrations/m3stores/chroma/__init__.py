"""Hybrid collections in Chroma."""

from m3stores.chroma.engine import Where
from m3stores.chroma.store import ChromaStore

__all__ = ["ChromaStore", "Where"]
