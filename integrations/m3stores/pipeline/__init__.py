"""From a source of any size to a collection: read, split, encode, store, at the same time, and go on after a kill."""

from typing import TYPE_CHECKING, Any

from m3core import MissingDependency
from m3stores.pipeline.encoding import encode
from m3stores.pipeline.indexing import index
from m3stores.pipeline.planning import Plan, plan
from m3stores.pipeline.summary import Summary

if TYPE_CHECKING:
    from m3stores.pipeline.loading import load

__all__ = ["Plan", "Summary", "encode", "index", "load", "plan"]


def __getattr__(name: str) -> Any:
    """`load`, which needs pyarrow."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from m3stores.pipeline.loading import load
    except ImportError as error:
        raise MissingDependency("Parquet needs pyarrow: pip install 'm3-retrieval[parquet]'") from error
    return load
