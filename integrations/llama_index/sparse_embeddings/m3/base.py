"""`M3SparseEmbedding`: the lexical weights of an M3 model for LlamaIndex."""

from typing import ClassVar

from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from llama_index.core.bridge.pydantic import Field

from llama_index.embeddings.m3.component import M3Component
from m3core import M3Output, Mode
from m3core.lazy import sparse_lists


class M3SparseEmbedding(M3Component, BaseSparseEmbedding):
    """Sparse embeddings by a model of the M3 families.

    ```python
    from llama_index.sparse_embeddings.m3 import M3SparseEmbedding

    sparse = M3SparseEmbedding("m3-mini")                      # M3SparseEmbedding() is BAAI/bge-m3
    sparse.get_text_embedding("巴黎是法国的首都。")               # {token id: weight}
    ```

    For LlamaIndex's own Qdrant store, in one forward pass for both kinds of vectors:

    ```python
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.embeddings.m3 import M3Embedding
    from llama_index.vector_stores.qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient

    store = QdrantVectorStore(
        "capitals",
        client=QdrantClient(":memory:"),
        enable_hybrid=True,
        sparse_doc_fn=sparse.sparse_doc_fn,
        sparse_query_fn=sparse.sparse_query_fn,
    )
    index = VectorStoreIndex.from_documents(
        [Document(text="巴黎是法国的首都。"), Document(text="Tokyo is the capital of Japan.")],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=M3Embedding("m3-mini"),                    # the same settings: the model is shared, and each pass
    )
    index.as_retriever(vector_store_query_mode="hybrid").retrieve("法国首都在哪里？")
    ```

    `llama_index.vector_stores.m3.M3VectorStore` does all that by itself, and has multi-vectors too.
    """

    embed_batch_size: int = Field(default=256, gt=0, le=2048, description="Texts in one call of the encoder.")

    _wanted: ClassVar[tuple[Mode, ...]] = ("sparse",)

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's registries."""
        return "M3SparseEmbedding"

    def sparse_doc_fn(self, texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
        """The sparse vectors of documents, as LlamaIndex's Qdrant store takes them.

        Returns:
            The token ids of each text, and their weights.
        """
        return _columns(self._encoder.encode(texts))

    def sparse_query_fn(self, texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
        """The sparse vectors of queries, as LlamaIndex's Qdrant store takes them.

        Returns:
            The token ids of each text, and their weights.
        """
        return _columns(self._encoder.encode(texts, queries=True))

    def _get_query_embedding(self, query: str) -> dict[int, float]:
        return _dicts(self._encoder.encode([query], queries=True))[0]

    async def _aget_query_embedding(self, query: str) -> dict[int, float]:
        return _dicts(await self._encoder.aencode([query], queries=True))[0]

    def _get_text_embedding(self, text: str) -> dict[int, float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> dict[int, float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[dict[int, float]]:
        return _dicts(self._encoder.encode(texts))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[dict[int, float]]:
        return _dicts(await self._encoder.aencode(texts))


def _columns(output: M3Output) -> tuple[list[list[int]], list[list[float]]]:
    vectors = sparse_lists(output)
    return [indices for indices, _ in vectors], [values for _, values in vectors]


def _dicts(output: M3Output) -> list[dict[int, float]]:
    return [dict(zip(indices, values, strict=True)) for indices, values in sparse_lists(output)]
