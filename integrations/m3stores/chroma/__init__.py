"""Hybrid collections in Chroma."""

from m3stores.chroma.filters import Where
from m3stores.chroma.store import ChromaStore

__all__ = ["ChromaStore", "Where"]
