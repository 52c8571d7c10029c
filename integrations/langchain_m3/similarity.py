"""The searches of a LangChain vector store over a hybrid collection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from langchain_m3.documents import document_of
from langchain_m3.searching import merged, relevances
from m3core import Fusion, InvalidInput, M3Encoder, M3Output
from m3stores import Hit, HybridStore, TextIndex

BY_TYPE: dict[str, dict[str, Any]] = {
    "dense": {"modes": ["dense"], "rerank": False},
    "sparse": {"modes": ["sparse"], "rerank": False},
    "hybrid": {"modes": None, "rerank": None},
}
"""The types of search that LangChain does not have, and the options that they stand for."""


class SimilaritySearch(VectorStore):
    """What `M3VectorStore` finds. For subclasses."""

    def __init__(self, index: TextIndex, defaults: Mapping[str, Any]) -> None:
        """For subclasses.

        Args:
            index: the encoder and the collection.
            defaults: options of a search that it takes where a call does not say otherwise.

        Raises:
            InvalidInput: options that there are not, or that do not go together.
        """
        merged(defaults, {})
        self._index = index
        self._defaults = defaults

    @property
    def store(self) -> HybridStore:
        """The collection."""
        return self._index.store

    @property
    def encoder(self) -> M3Encoder:
        """The encoder."""
        return self._index.encoder

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """The best documents for a query.

        Args:
            query: a text.
            k: how many at most.
            options: `filter`, a dict on metadata such as `{"year": {"$gte": 2020}}` (see `m3stores.filters`) or the
                store's own; `modes`, `candidates`, `fusion`, `weights`, `rerank`, `score_threshold`.

        Raises:
            InvalidInput: an argument that cannot be used.
            UnsupportedMode: a mode that the collection does not have.
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, **options)]

    async def asimilarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """`similarity_search` without blocking the event loop."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **options)]

    def similarity_search_with_score(self, query: str, k: int = 4, **options: Any) -> list[tuple[Document, float]]:
        """The best documents with their fused scores, larger is better. Arguments as of `similarity_search`."""
        return self._found(query, self._options(k, options)).scored()

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score` without blocking the event loop."""
        return (await self._afound(query, self._options(k, options))).scored()

    def similarity_search_by_vector(self, embedding: Sequence[float], k: int = 4, **options: Any) -> list[Document]:
        """The documents with the nearest dense vectors.

        Args:
            embedding: a dense vector, as `embeddings.embed_query` makes it.
            k: how many at most.
            options: `filter`, `score_threshold`, `candidates`.
        """
        return _documents(self.store.search(self._dense(embedding), **self._dense_options(k, options)))

    async def asimilarity_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, **options: Any
    ) -> list[Document]:
        """`similarity_search_by_vector` without blocking the event loop."""
        return _documents(await self.store.asearch(self._dense(embedding), **self._dense_options(k, options)))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """Documents that fit the query and differ from each other (Carbonell & Goldstein, SIGIR 1998).

        Args:
            query: a text.
            k: how many at most.
            fetch_k: how many candidates each mode proposes.
            lambda_mult: 1 goes by relevance alone, 0 only by how much a document differs from those before.
            options: as of `similarity_search`.
        """
        return self._found(query, self._options(k, options), **_mmr(k, fetch_k, lambda_mult)).documents()

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """`max_marginal_relevance_search` without blocking the event loop."""
        return (await self._afound(query, self._options(k, options), **_mmr(k, fetch_k, lambda_mult))).documents()

    def max_marginal_relevance_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for a dense vector."""
        options = self._dense_options(k, options) | _mmr(k, fetch_k, lambda_mult)
        return _documents(self.store.search(self._dense(embedding), **options))

    async def amax_marginal_relevance_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """`max_marginal_relevance_search_by_vector` without blocking the event loop."""
        options = self._dense_options(k, options) | _mmr(k, fetch_k, lambda_mult)
        return _documents(await self.store.asearch(self._dense(embedding), **options))

    def search(self, query: str, search_type: str, **options: Any) -> list[Document]:
        """The best documents by a type of search: those of `as_retriever`."""
        if search_type in BY_TYPE:
            return self.similarity_search(query, **(BY_TYPE[search_type] | options))
        return super().search(query, search_type, **options)

    async def asearch(self, query: str, search_type: str, **options: Any) -> list[Document]:
        """`search` without blocking the event loop."""
        if search_type in BY_TYPE:
            return await self.asimilarity_search(query, **(BY_TYPE[search_type] | options))
        return await super().asearch(query, search_type, **options)

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        return self._found(query, self._options(k, options)).relevant()

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        return (await self._afound(query, self._options(k, options))).relevant()

    def _options(self, k: int, options: Mapping[str, Any]) -> dict[str, Any]:
        return merged(self._defaults, {**options, "k": k})

    def _found(self, query: str, options: dict[str, Any], **more: Any) -> "_Found":
        encoded, (hits,) = self._index.find([query], **(options | more))
        return _Found(hits, encoded, options["fusion"])

    async def _afound(self, query: str, options: dict[str, Any], **more: Any) -> "_Found":
        encoded, (hits,) = await self._index.afind([query], **(options | more))
        return _Found(hits, encoded, options["fusion"])

    def _dense(self, embedding: Sequence[float]) -> M3Output:
        vector = np.asarray(embedding, dtype=np.float32)
        if vector.ndim != 1:
            raise InvalidInput(f"an embedding is a list of numbers, not of shape {vector.shape}")
        return M3Output(vector[None], score_weights=self.encoder.score_weights, fingerprint=self.encoder.fingerprint)

    def _dense_options(self, k: int, options: Mapping[str, Any]) -> dict[str, Any]:
        if others := options.keys() - {"filter", "score_threshold", "candidates"}:
            raise InvalidInput(f"a search by vector is dense: it takes no {', '.join(sorted(others))}")
        held = {"candidates": self._defaults["candidates"]}
        return merged(held, {**options, "modes": ["dense"], "rerank": False, "k": k})


@dataclass(frozen=True)
class _Found:
    """The hits of a query, and what they were found with."""

    hits: list[Hit]
    query: M3Output
    fusion: Fusion | None

    def documents(self) -> list[Document]:
        return [document_of(hit) for hit in self.hits]

    def scored(self) -> list[tuple[Document, float]]:
        return [(document_of(hit), hit.score) for hit in self.hits]

    def relevant(self) -> list[tuple[Document, float]]:
        return list(zip(self.documents(), relevances(self.hits, self.query, self.fusion), strict=True))


def _documents(hits: list[list[Hit]]) -> list[Document]:
    return [document_of(hit) for hit in hits[0]]


def _mmr(k: int, fetch_k: int, lambda_mult: float) -> dict[str, Any]:
    return {"candidates": max(k, fetch_k), "mmr": lambda_mult}
