"""LangChain: embeddings, vector store, hybrid retriever and reranker of the M3 families.

from langchain_m3 import M3Retriever

retriever = M3Retriever.from_texts(texts)
retriever.invoke("人工智能会取代教师吗？")
"""

from m3core import MissingDependency

try:
    import langchain_core  # noqa: F401
except ImportError as error:
    raise MissingDependency("langchain_m3 needs langchain-core: pip install 'm3-retrieval[langchain]'") from error

from langchain_m3.embeddings import M3Embeddings
from langchain_m3.rerank import M3Reranker
from langchain_m3.retrievers import M3Retriever
from langchain_m3.sparse import M3SparseEmbeddings
from langchain_m3.vectorstores import M3VectorStore

__all__ = ["M3Embeddings", "M3Reranker", "M3Retriever", "M3SparseEmbeddings", "M3VectorStore"]
