"""Hybrid collections in Qdrant."""

from m3stores.qdrant.layout import LANGCHAIN, LLAMA_INDEX, Layout, QdrantSettings
from m3stores.qdrant.store import QdrantStore

__all__ = ["LANGCHAIN", "LLAMA_INDEX", "Layout", "QdrantSettings", "QdrantStore"]
