"""`M3Embeddings`: the dense vectors of an M3 model for LangChain."""

from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field

from m3core import M3Output
from m3core.lazy import dense_lists
from m3core.settings import EncoderSettings


class M3Embeddings(EncoderSettings, Embeddings):
    """Dense embeddings by a model of the M3 families, for whatever takes LangChain embeddings.

    ```python
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_m3 import M3Embeddings

    embeddings = M3Embeddings(model="m3-mini")    # M3Embeddings() is BAAI/bge-m3
    store = InMemoryVectorStore.from_texts(["巴黎是法国的首都。", "Tokyo is the capital of Japan."], embeddings)
    store.similarity_search("法国首都在哪里？", k=1)
    ```

    All modes of one forward pass:

    ```python
    output = embeddings.encode(["巴黎是法国的首都。"])
    output.dense, output.sparse, output.multivector
    ```

    Behind a mirror, on one device, with a cache that keeps what was encoded:

    ```python
    M3Embeddings(endpoint="https://hf-mirror.com", device="cuda:0", cache="vectors.sqlite", show_progress=True)
    ```

    The model loads with the first text. Components with the same settings share it: `M3SparseEmbeddings`, `M3Reranker`.
    For hybrid retrieval take `M3Retriever` or `M3VectorStore`.
    """

    model_config = ConfigDict(extra="forbid")

    show_progress: bool = Field(default=False, description="Whether `embed_documents` shows a progress bar.")

    def encode(self, texts: list[str], *, queries: bool = False) -> M3Output:
        """All representations of texts, in one forward pass.

        Args:
            texts: any number of them.
            queries: whether they are queries, and not documents.

        Returns:
            An `M3Output` with `.dense`, `.sparse` and `.multivector`, as far as the model has them.
        """
        encode = self.encoder.encode_queries if queries else self.encoder.encode_documents
        return encode(texts, show_progress=self.show_progress)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The dense vectors of texts.

        Args:
            texts: any number of them.

        Returns:
            A vector for each.
        """
        return dense_lists(self._encoder.encode(texts, show_progress=self.show_progress))

    def embed_query(self, text: str) -> list[float]:
        """The dense vector of a query.

        Args:
            text: the query.

        Returns:
            Its vector.
        """
        return dense_lists(self._encoder.encode([text], queries=True))[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents` without blocking the event loop."""
        return dense_lists(await self._encoder.aencode(texts))

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query` without blocking the event loop."""
        return dense_lists(await self._encoder.aencode([text], queries=True))[0]
