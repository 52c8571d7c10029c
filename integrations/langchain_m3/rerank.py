"""`M3Reranker`: puts documents that something else retrieved into the order of an M3 model."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field

from m3core import Mode
from m3core.reranking import best_passages
from m3core.settings import EncoderSettings


class M3Reranker(EncoderSettings, BaseDocumentCompressor):
    """Reranks documents by a model of the M3 families: by MaxSim, by the hybrid score, or by any other of its modes.

    ```python
    from langchain_core.documents import Document
    from langchain_m3 import M3Reranker

    reranker = M3Reranker(model="m3-mini", top_n=1)       # M3Reranker() is BAAI/bge-m3, by the hybrid score
    found = [Document("Tokyo is the capital of Japan."), Document("巴黎是法国的首都。")]
    best = reranker.compress_documents(found, "法国首都在哪里？")
    best[0].metadata["relevance_score"]

    M3Reranker(model="m3-mini", modes=["multivector"])    # MaxSim alone
    ```

    After any retriever, as a step of a chain:

    ```python
    from langchain_core.runnables import RunnablePassthrough, chain
    from langchain_m3 import M3Retriever

    retriever = M3Retriever.from_documents(found, encoder="m3-mini", k=20)

    @chain
    def best(found):
        return reranker.compress_documents(found["documents"], found["query"])

    pipeline = {"query": RunnablePassthrough(), "documents": retriever} | best
    pipeline.invoke("法国首都在哪里？")
    ```

    `M3Retriever` and `M3VectorStore` rerank by themselves, with multi-vectors that they have stored (`rerank=True`);
    this one encodes the documents anew, all in one call. With `cache=` those that it has seen cost nothing.
    """

    model_config = ConfigDict(extra="forbid")

    top_n: int | None = Field(default=3, ge=1, description="How many documents to return; None returns all.")
    modes: list[Mode] | None = Field(
        default=None, description="What to score by; None means all that the model has, which is the hybrid score."
    )
    weights: tuple[float, float, float] | None = Field(
        default=None, description="For (dense, sparse, multi-vector) in the hybrid score; None takes the model's own."
    )

    _wanted: ClassVar[tuple[Mode, ...]] = ()

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best documents for a query, best first; equal ones in the order that they came in.

        Args:
            documents: any number of them; they are not changed.
            query: the query.
            callbacks: not used.

        Returns:
            Copies with the score as `metadata["relevance_score"]`.

        Raises:
            UnsupportedMode: the model does not have one of the modes.
        """
        if not documents:
            return []
        texts = [document.page_content for document in documents]
        best = best_passages(self.encoder, query, texts, most=self.top_n, modes=self.modes, weights=self.weights)
        return [
            documents[i].model_copy(update={"metadata": {**documents[i].metadata, "relevance_score": score}})
            for i, score in best
        ]

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """`compress_documents` without blocking the event loop."""
        return await asyncio.to_thread(self.compress_documents, documents, query, callbacks)
