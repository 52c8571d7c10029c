"""Hybrid collections in Qdrant."""

from m3stores.qdrant.store import QdrantStore

__all__ = ["QdrantStore"]
