"""`M3Embedding`: the dense vectors of an M3 model for LlamaIndex."""

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field

from llama_index.embeddings.m3.component import M3Component
from m3core import M3Output
from m3core.lazy import dense_lists


class M3Embedding(M3Component, BaseEmbedding):
    """Dense embeddings by a model of the M3 families.

    ```python
    from llama_index.core import Document, VectorStoreIndex
    from llama_index.embeddings.m3 import M3Embedding

    index = VectorStoreIndex.from_documents(
        [Document(text="巴黎是法国的首都。"), Document(text="Tokyo is the capital of Japan.")],
        embed_model=M3Embedding("m3-mini"),    # M3Embedding() is BAAI/bge-m3
    )
    index.as_retriever(similarity_top_k=1).retrieve("法国首都在哪里？")
    ```

    All modes of one forward pass:

    ```python
    output = M3Embedding("m3-mini").encode(["巴黎是法国的首都。"])
    output.dense, output.sparse, output.multivector
    ```

    With a cache of all modes, which worker processes share. (LlamaIndex's own `embeddings_cache` knows neither models
    nor sparse vectors.)

    ```python
    pipeline = IngestionPipeline(transformations=[M3Embedding(cache="vectors.sqlite")], vector_store=store)
    pipeline.run(documents=documents, num_workers=4)
    ```

    The model loads with the first text. Components with the same settings share it: `M3SparseEmbedding`, `M3Rerank`.
    """

    embed_batch_size: int = Field(default=256, gt=0, le=2048, description="Texts in one call of the encoder.")

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's registries."""
        return "M3Embedding"

    def encode(self, texts: list[str], *, queries: bool = False) -> M3Output:
        """All representations of texts, in one forward pass.

        Args:
            texts: any number of them.
            queries: whether they are queries, and not documents.

        Returns:
            An `M3Output` with `.dense`, `.sparse` and `.multivector`, as far as the model has them.
        """
        return (self.encoder.encode_queries if queries else self.encoder.encode_documents)(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return dense_lists(self._encoder.encode([query], queries=True))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return dense_lists(await self._encoder.aencode([query], queries=True))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return dense_lists(self._encoder.encode(texts))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return dense_lists(await self._encoder.aencode(texts))
