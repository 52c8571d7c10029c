"""LlamaIndex: any hybrid collection as a vector store."""

from m3core import MissingDependency

try:
    import llama_index.core  # noqa: F401
except ImportError as error:
    raise MissingDependency(
        "llama_index.vector_stores.m3 needs llama-index-core: pip install 'm3-retrieval[llama-index]'"
    ) from error

from llama_index.vector_stores.m3.base import M3VectorStore

__all__ = ["M3VectorStore"]
