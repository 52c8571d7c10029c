"""LlamaIndex: sparse embeddings of the M3 families."""

from m3core import MissingDependency

try:
    import llama_index.core  # noqa: F401
except ImportError as error:
    raise MissingDependency(
        "llama_index.sparse_embeddings.m3 needs llama-index-core: pip install 'm3-retrieval[llama-index]'"
    ) from error

from llama_index.sparse_embeddings.m3.base import M3SparseEmbedding

__all__ = ["M3SparseEmbedding"]
