"""LlamaIndex: reranking by the M3 families."""

from m3core import MissingDependency

try:
    import llama_index.core  # noqa: F401
except ImportError as error:
    raise MissingDependency(
        "llama_index.postprocessor.m3 needs llama-index-core: pip install 'm3-retrieval[llama-index]'"
    ) from error

from llama_index.postprocessor.m3.base import M3Rerank

__all__ = ["M3Rerank"]
