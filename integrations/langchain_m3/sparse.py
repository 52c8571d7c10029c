"""`M3SparseEmbeddings`: the lexical weights of an M3 model for vector stores that take sparse embeddings."""

from typing import ClassVar, NamedTuple

from pydantic import ConfigDict

from m3core import Mode
from m3core.lazy import sparse_lists
from m3core.settings import EncoderSettings


class SparseEmbedding(NamedTuple):
    """A sparse vector as langchain-qdrant reads it.

    Attributes:
        indices: token ids, increasing.
        values: their weights.
    """

    indices: list[int]
    values: list[float]


class M3SparseEmbeddings(EncoderSettings):
    """Sparse embeddings by a model of the M3 families, as langchain-qdrant takes them.

    ```python
    from langchain_qdrant import QdrantVectorStore, RetrievalMode
    from langchain_m3 import M3Embeddings, M3SparseEmbeddings

    store = QdrantVectorStore.from_texts(
        ["巴黎是法国的首都。", "Tokyo is the capital of Japan."],
        embedding=M3Embeddings(model="m3-mini"),                    # give both the same settings:
        sparse_embedding=M3SparseEmbeddings(model="m3-mini"),       # then they share one model, and one forward pass
        retrieval_mode=RetrievalMode.HYBRID,
        location=":memory:",
    )
    store.similarity_search("法国首都在哪里？", k=1)
    ```

    Where `M3Embeddings` of the same settings lives too, each text goes through the model once for both. The vectors
    that the other has not asked for yet wait in the `cache`, or else in a temporary one of bounded size.
    """

    model_config = ConfigDict(extra="forbid")

    _wanted: ClassVar[tuple[Mode, ...]] = ("sparse",)

    def embed_documents(self, texts: list[str]) -> list[SparseEmbedding]:
        """The sparse vectors of texts.

        Args:
            texts: any number of them.

        Returns:
            A vector for each.

        Raises:
            UnsupportedMode: the model has no sparse representations.
        """
        return [SparseEmbedding(*lists) for lists in sparse_lists(self._encoder.encode(texts))]

    def embed_query(self, text: str) -> SparseEmbedding:
        """The sparse vector of a query.

        Raises:
            UnsupportedMode: the model has no sparse representations.
        """
        return SparseEmbedding(*sparse_lists(self._encoder.encode([text], queries=True))[0])

    async def aembed_documents(self, texts: list[str]) -> list[SparseEmbedding]:
        """`embed_documents` without blocking the event loop."""
        return [SparseEmbedding(*lists) for lists in sparse_lists(await self._encoder.aencode(texts))]

    async def aembed_query(self, text: str) -> SparseEmbedding:
        """`embed_query` without blocking the event loop."""
        return SparseEmbedding(*sparse_lists(await self._encoder.aencode([text], queries=True))[0])
