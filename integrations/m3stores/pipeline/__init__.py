"""From a source of any size to a collection: read, split, encode, store, at the same time, and go on after a kill."""

from m3stores.pipeline.indexing import index
from m3stores.pipeline.planning import Plan, plan
from m3stores.pipeline.summary import Summary

__all__ = ["Plan", "Summary", "index", "plan"]
