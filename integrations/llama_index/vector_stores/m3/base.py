"""`M3VectorStore`: any hybrid collection as a LlamaIndex vector store."""

import asyncio
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from llama_index.embeddings.m3 import M3Embedding
from llama_index.vector_stores.m3.filters import filter_of
from llama_index.vector_stores.m3.nodes import REF_DOC, node_of, record_of
from llama_index.vector_stores.m3.queries import Search, search_of
from m3core import MODES, CollectionMismatch, InvalidInput, M3Output, Mode, Record, StoreWarning
from m3core.lazy import LazyEncoder
from m3stores import Hit, HybridStore, TextIndex

_ALIKE = 0.99  # cosine of a text's vectors from one model; bfloat16 rounds


class M3VectorStore(BasePydanticVectorStore):
    """A hybrid collection, in Qdrant or Chroma, in this process or on a server, as a LlamaIndex vector store.

    ```python
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.embeddings.m3 import M3Embedding
    from llama_index.vector_stores.m3 import M3VectorStore
    from m3stores import QdrantStore

    embed_model = M3Embedding("m3-mini")                                      # M3Embedding() is BAAI/bge-m3
    vector_store = M3VectorStore(QdrantStore("capitals"), embed_model)        # path="./index" keeps it on disk
    index = VectorStoreIndex.from_documents(
        [Document(text="巴黎是法国的首都。"), Document(text="Tokyo is the capital of Japan.")],
        storage_context=StorageContext.from_defaults(vector_store=vector_store),
        embed_model=embed_model,
    )
    retriever = index.as_retriever(vector_store_query_mode="hybrid", similarity_top_k=1)
    retriever.retrieve("法国首都在哪里？")
    ```

    An index over a collection that is there already, whoever wrote it:

    ```python
    VectorStoreIndex.from_vector_store(M3VectorStore(QdrantStore("capitals", path="./index"), embed_model), embed_model)
    ```

    Query modes:

    - `"default"`: dense.
    - `"sparse"`: lexical.
    - `"hybrid"`: the weighted sum of both. `alpha` shifts it, from 0 (sparse only) over 0.5 (the model's own balance,
      as without `alpha`) to 1 (dense only).
    - `"semantic_hybrid"`: the same, reranked by multi-vectors, which is the model's own hybrid score.
    - `"mmr"`: dense, and different from each other; `vector_store_kwargs={"mmr_threshold": λ}`, from 0 (only different)
      to 1 (only relevant).

    Each text and each query goes through the model once, though LlamaIndex asks for the dense vectors and this store
    for all: what the embedding model encodes for one is kept for the other, in its `cache`, or else in a temporary one
    of up to 2 GB. With long texts in all modes of bge-m3, make `insert_batch_size` of the index smaller, or give
    `store_modes=["dense", "sparse"]`. With worker processes (`num_workers`), give the embedding model a `cache`.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    flat_metadata: bool = False

    _store: HybridStore = PrivateAttr()
    _embed_model: M3Embedding = PrivateAttr()
    _store_modes: Sequence[Mode] | None = PrivateAttr()
    _passes: LazyEncoder = PrivateAttr()

    def __init__(
        self,
        store: HybridStore,
        embed_model: M3Embedding | None = None,
        *,
        store_modes: Sequence[Mode] | None = None,
    ) -> None:
        """A vector store over an open collection.

        Args:
            store: the collection, of `QdrantStore` or `ChromaStore`.
            embed_model: the one that the index has; `None` is `M3Embedding()`.
            store_modes: what a new collection keeps; `None` means all that the model has.
        """
        super().__init__(stores_text=True)
        self._store = store
        self._embed_model = M3Embedding() if embed_model is None else embed_model
        if not isinstance(self._embed_model, M3Embedding):
            kind = type(embed_model).__name__
            raise InvalidInput(f"a hybrid collection needs all modes of an M3 model: give an M3Embedding, not {kind}")
        self._store_modes = store_modes
        self._passes = self._embed_model._encoder.wanting(store_modes or store.modes or MODES)

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's registries."""
        return "M3VectorStore"

    @property
    def client(self) -> HybridStore:
        """The collection."""
        return self._store

    @property
    def embed_model(self) -> M3Embedding:
        """The embedding model of the collection."""
        return self._embed_model

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:
        """Stores nodes with all representations of their text, in place of any with the same ids.

        Args:
            nodes: any number of them; without embeddings they are encoded, with them too if it has not been done.
            add_kwargs: nothing.

        Returns:
            The ids of the nodes.

        Raises:
            InvalidInput: a node that cannot be stored, named.
            CollectionMismatch: another encoder made the collection, or one of another width embedded the nodes.
        """
        records, texts = self._prepared(nodes)
        return self._index().add(records, texts=texts, modes=self._store_modes)

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """`add` without blocking the event loop."""
        records, texts = await asyncio.to_thread(self._prepared, nodes)
        index = await asyncio.to_thread(self._index)
        return await index.aadd(records, texts=texts, modes=self._store_modes)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Removes the nodes that were made of a document, and a record of its id that something else stored."""
        self._store.delete(filter={REF_DOC: ref_doc_id})
        self._store.delete([record.id for record in self._store.get([ref_doc_id]) if REF_DOC not in record.metadata])

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """`delete` without blocking the event loop."""
        await self._store.adelete(filter={REF_DOC: ref_doc_id})
        held = await self._store.aget([ref_doc_id])
        await self._store.adelete([record.id for record in held if REF_DOC not in record.metadata])

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Removes nodes by id, by filter, or those of these ids that a filter matches.

        Raises:
            InvalidInput: neither was given.
        """
        if node_ids is not None and filters is not None:
            self._store.delete([node.node_id for node in self.get_nodes(node_ids, filters)])
        else:
            self._store.delete(node_ids, filter=filter_of(filters))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """`delete_nodes` without blocking the event loop."""
        if node_ids is not None and filters is not None:
            await self._store.adelete([node.node_id for node in await self.aget_nodes(node_ids, filters)])
        else:
            await self._store.adelete(node_ids, filter=filter_of(filters))

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes of these ids, those that a filter matches, or those that both are true of; all without either."""
        if node_ids is not None and filters is None:
            return [node_of(record) for record in self._store.get(node_ids)]
        wanted = None if node_ids is None else set(node_ids)
        pages = self._store.scroll(filter=filter_of(filters))
        return [node_of(r) for page in pages for r in page.records if wanted is None or r.id in wanted]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """`get_nodes` without blocking the event loop."""
        if node_ids is not None and filters is None:
            return [node_of(record) for record in await self._store.aget(node_ids)]
        wanted = None if node_ids is None else set(node_ids)
        pages = self._store.ascroll(filter=filter_of(filters))
        return [node_of(r) async for page in pages for r in page.records if wanted is None or r.id in wanted]

    def clear(self) -> None:
        """Removes all nodes."""
        self._store.clear()

    async def aclear(self) -> None:
        """`clear` without blocking the event loop."""
        await self._store.aclear()

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The best nodes for a query.

        Args:
            query: with a mode that the class names, and what the mode needs of `query_embedding` and `query_str`.
            kwargs: `candidates` (how many nodes each mode proposes), `fusion` (`WeightedSum`, `RRF`, `DBSF`),
                `mmr_threshold`, `mmr_prefetch_factor`, `mmr_prefetch_k`.

        Raises:
            InvalidInput: a mode, an option or a filter that there is not.
            UnsupportedMode: representations that the collection does not have.
            CollectionMismatch: another encoder made the collection.
        """
        search, encoded = self._encoded(query, kwargs)
        return _result(self._store.search(encoded, **search.options))

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query` without blocking the event loop."""
        search, encoded = await asyncio.to_thread(self._encoded, query, kwargs)
        return _result(await self._store.asearch(encoded, **search.options))

    def _encoded(self, query: VectorStoreQuery, options: dict[str, Any]) -> tuple[Search, M3Output]:
        encoder = self._passes.get()
        search = search_of(query, encoder.score_weights, **options)
        given = None if query.query_embedding is None else np.asarray([query.query_embedding], dtype=np.float32)
        needed = [mode for mode in search.needed if mode != "dense" or given is None]
        if needed and query.query_str is None:
            raise InvalidInput(f"the query mode {VectorStoreQueryMode(query.mode).value!r} needs query_str")
        if not needed:
            return search, M3Output(given, score_weights=encoder.score_weights, fingerprint=encoder.fingerprint)
        encoded = encoder.encode_queries([query.query_str or ""], modes=needed)
        return search, encoded if given is None else replace(encoded, dense=given)

    def _index(self) -> TextIndex:
        return TextIndex(self._passes.get(), self._store)

    def _prepared(self, nodes: Sequence[BaseNode]) -> tuple[list[Record], list[str]]:
        texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        for node, text in zip(nodes, texts, strict=True):
            if node.embedding is not None:
                self._check_embedding(text, node.embedding)
                break
        return [record_of(node) for node in nodes], texts

    def _check_embedding(self, text: str, embedding: Sequence[float]) -> None:
        """Notices nodes that another model has embedded. Costs nothing where this one has just done it."""
        ours = self._passes.encode([text]).dense
        assert ours is not None
        theirs = np.asarray(embedding, dtype=np.float32)
        if theirs.shape != ours[0].shape:
            raise CollectionMismatch(
                f"the nodes were embedded by another model than this store's: their vectors are {len(theirs)} wide, "
                f"and its {len(ours[0])}. Give the index (or pipeline) embed_model=vector_store.embed_model"
            )
        if ours[0] @ theirs < _ALIKE * float(np.linalg.norm(ours[0]) * np.linalg.norm(theirs)):
            warnings.warn(
                "the nodes' embeddings are not what this store's model makes of their text, which is encoded anew: it "
                "was changed since, or the index (or pipeline) has another model; then give it "
                "embed_model=vector_store.embed_model",
                StoreWarning,
                stacklevel=4,
            )


def _result(found: list[list[Hit]]) -> VectorStoreQueryResult:
    (hits,) = found
    return VectorStoreQueryResult(
        nodes=[node_of(hit) for hit in hits], similarities=[hit.score for hit in hits], ids=[hit.id for hit in hits]
    )
