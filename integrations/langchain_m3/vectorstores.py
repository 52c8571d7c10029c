"""`M3VectorStore`: any hybrid collection as a LangChain vector store."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStoreRetriever

from langchain_m3.documents import document_of, documents_of, records_of
from langchain_m3.embeddings import M3Embeddings
from langchain_m3.similarity import BY_TYPE, SimilaritySearch
from m3core import Fusion, InvalidInput, Mode
from m3stores import HybridStore, QdrantStore, TextIndex
from m3stores.adapting import EncoderLike, as_encoder, closed_on_error, with_reserved
from m3stores.engine import gently


class M3VectorStore(SimilaritySearch):
    """A hybrid collection, in Qdrant or Chroma, in this process or on a server, as a LangChain vector store.

    ```python
    from langchain_core.documents import Document
    from langchain_m3 import M3VectorStore
    from m3stores import QdrantStore

    store = M3VectorStore(QdrantStore("capitals"), "m3-mini")       # BAAI/bge-m3 if left out
    store.add_documents([
        Document("巴黎是法国的首都。", id="paris", metadata={"language": "zh"}),
        Document("Tokyo is the capital of Japan.", id="tokyo", metadata={"language": "en"}),
    ])
    store.similarity_search("法国首都在哪里？", k=1, filter={"language": "zh"})
    store.similarity_search_with_score("法国首都在哪里？")            # the hybrid score
    store.similarity_search_with_relevance_scores("法国首都在哪里？", score_threshold=0.5)   # from 0 to 1
    store.max_marginal_relevance_search("首都", k=2, lambda_mult=0.3)
    store.get_by_ids(["paris"])
    store.delete(["tokyo"])
    ```

    Where it is:

    ```python
    M3VectorStore(QdrantStore("debate", path="./index"))                     # on this disk
    M3VectorStore(QdrantStore("debate", url="http://localhost:6333"))        # on a Qdrant server
    M3VectorStore(ChromaStore("debate", path="./chroma"))                    # in Chroma
    M3VectorStore.from_texts(texts, M3Embeddings(), path="./index")          # in one line
    ```

    As a retriever, with the search types `"similarity"` (as the store was set up), `"dense"`, `"sparse"`, `"hybrid"`,
    `"mmr"` and `"similarity_score_threshold"`:

    ```python
    store.as_retriever(search_type="hybrid", search_kwargs={"k": 5, "filter": {"side": "pro"}})
    ```

    Each text and each query goes through the model once, whatever the modes. Every method has an async twin that leaves
    the event loop free. Any search takes `k`, `filter`, and as keywords `modes`, `candidates`, `fusion`, `weights` and
    `rerank`, as `M3Retriever` documents them; those given here are the defaults.
    """

    def __init__(
        self,
        store: HybridStore,
        encoder: EncoderLike | Embeddings | None = None,
        *,
        modes: Sequence[Mode] | None = None,
        rerank: bool | None = None,
        candidates: int | None = None,
        fusion: Fusion | None = None,
        weights: Sequence[float] | None = None,
        store_modes: Sequence[Mode] | None = None,
    ) -> None:
        """A vector store over an open collection.

        Args:
            store: the collection, of `QdrantStore` or `ChromaStore`.
            encoder: the one that made it: an `M3Encoder`, `M3Embeddings`, or where the model is; `None` means the model
                that the collection says it was made by, or BAAI/bge-m3 for a new one.
            modes: which modes propose candidates; `None` means dense and sparse, as far as the collection has them.
            rerank: whether multi-vectors score the candidates; `None` means where the collection has them.
            candidates: how many documents each mode proposes; `None` means 5·k, but at least 50.
            fusion: `WeightedSum`, `RRF` or `DBSF`; `None` means the weighted sum with the model's own weights.
            weights: for (dense, sparse, multi-vector) in the weighted sum, in place of `fusion`.
            store_modes: what a new collection keeps; `None` means all that the model has.

        Raises:
            CollectionMismatch: another encoder made the collection.
        """
        defaults = {"modes": modes, "rerank": rerank, "candidates": candidates, "fusion": fusion, "weights": weights}
        super().__init__(TextIndex(as_encoder(encoder, store), store), defaults)
        self._store_modes = store_modes

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: EncoderLike | Embeddings | None = None,
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        store: HybridStore | None = None,
        collection: str = "documents",
        path: str | Path | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> Self:
        """Stores texts, and returns the vector store.

        Args:
            texts: any number of them.
            embedding: `M3Embeddings`, an `M3Encoder`, or where the model is; `None` loads BAAI/bge-m3.
            metadatas: one dict for each text.
            ids: one string for each text; `None` makes them of text and metadata, so that storing again replaces.
            store: the collection; `None` makes one in embedded Qdrant.
            collection: the name of that one.
            path: the directory of that one; `None` keeps it in a temporary one while the vector store lives.
            show_progress: whether to show a progress bar.
            options: of the constructor, such as `rerank` and `store_modes`.

        Raises:
            InvalidInput: texts, metadata or ids that cannot be stored, or embeddings of another package.
        """
        documents = documents_of(texts, metadatas, ids)
        made_here = closed_on_error(QdrantStore(collection, path=path)) if store is None else nullcontext(store)
        with made_here as opened:
            made = cls(opened, embedding, **options)
            made.add_documents(documents, show_progress=show_progress)
        return made

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: EncoderLike | Embeddings | None = None,
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **options: Any,
    ) -> Self:
        """`from_texts` without blocking the event loop."""
        return await asyncio.to_thread(gently, partial(cls.from_texts, texts, embedding, metadatas, ids=ids, **options))

    @property
    def embeddings(self) -> M3Embeddings:
        """The dense side of the encoder."""
        return M3Embeddings.from_encoder(self.encoder)

    def add_documents(
        self,
        documents: list[Document],
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        show_progress: bool = False,
        **rest: Any,
    ) -> list[str]:
        """Encodes and stores documents, in place of any with the same ids.

        Args:
            documents: any number of them. One without an id gets one made of its text and metadata, so that adding it
                again does not double it.
            ids: in place of the documents' own; `None` among them means the document's own.
            batch_size: is taken because LangChain's indexing gives it; texts are packed by their tokens.
            show_progress: whether to show a progress bar.
            rest: nothing more.

        Returns:
            The ids.

        Raises:
            InvalidInput: a document that cannot be stored, named; those before it may be stored.
            CollectionMismatch: another encoder made the collection.
        """
        _refuse(rest)
        records = records_of(documents, ids)
        records = with_reserved(records, self.store.get([record.id for record in records]))
        return self._index.add(records, modes=self._store_modes, show_progress=show_progress)

    async def aadd_documents(
        self,
        documents: list[Document],
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        show_progress: bool = False,
        **rest: Any,
    ) -> list[str]:
        """`add_documents` without blocking the event loop."""
        _refuse(rest)
        records = await asyncio.to_thread(records_of, documents, ids)
        records = with_reserved(records, await self.store.aget([record.id for record in records]))
        return await self._index.aadd(records, modes=self._store_modes, show_progress=show_progress)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **options: Any,
    ) -> list[str]:
        """Encodes and stores texts; a generator of them is read first.

        Args:
            texts: any number of them.
            metadatas: one dict for each text.
            ids: one string for each text; `None` makes them of text and metadata.
            options: of `add_documents`.

        Returns:
            The ids.
        """
        return self.add_documents(documents_of(texts, metadatas, ids), **options)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **options: Any,
    ) -> list[str]:
        """`add_texts` without blocking the event loop."""
        return await self.aadd_documents(await asyncio.to_thread(documents_of, texts, metadatas, ids), **options)

    def delete(self, ids: Sequence[str] | None = None, *, filter: Any = None, **rest: Any) -> bool:
        """Removes documents by id or by filter; **all of them** if neither is given, as LangChain wants it.

        Args:
            ids: which ones; ids that are not there do not matter.
            filter: as in a search, in place of `ids`.
            rest: nothing more.

        Returns:
            True.
        """
        _refuse(rest)
        if ids is None and filter is None:
            self.store.clear()
        else:
            self.store.delete(ids, filter=filter)
        return True

    async def adelete(self, ids: Sequence[str] | None = None, *, filter: Any = None, **rest: Any) -> bool:
        """`delete` without blocking the event loop."""
        _refuse(rest)
        await (self.store.aclear() if ids is None and filter is None else self.store.adelete(ids, filter=filter))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents of these ids, in this order; ids that are not there are passed over."""
        return [document_of(record) for record in self.store.get(ids)]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """`get_by_ids` without blocking the event loop."""
        return [document_of(record) for record in await self.store.aget(ids)]

    def as_retriever(self, **options: Any) -> "M3VectorStoreRetriever":
        """A retriever over this vector store.

        Args:
            options: `search_type`, one of `"similarity"`, `"dense"`, `"sparse"`, `"hybrid"`, `"mmr"` and
                `"similarity_score_threshold"` (relevance from 0 to 1); `search_kwargs` for it, such as `k` and
                `filter`; `tags` and `metadata` for tracing.

        Raises:
            ValueError: an unknown `search_type`, or one that lacks its `score_threshold`.
        """
        tags = [*(options.pop("tags", None) or []), *self._get_retriever_tags()]
        return M3VectorStoreRetriever(vectorstore=self, tags=tags, **options)


class M3VectorStoreRetriever(VectorStoreRetriever):
    """What `M3VectorStore.as_retriever` returns. A call may override its `search_kwargs`: `invoke(query, k=3)`."""

    vectorstore: M3VectorStore
    """The vector store."""

    allowed_search_types: ClassVar[Sequence[str]] = (*VectorStoreRetriever.allowed_search_types, *BY_TYPE)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return self.vectorstore.search(query, self.search_type, **(self.search_kwargs | options))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return await self.vectorstore.asearch(query, self.search_type, **(self.search_kwargs | options))


def _refuse(rest: Mapping[str, Any]) -> None:
    if rest:
        raise InvalidInput(f"unknown arguments: {', '.join(sorted(rest))}")
