"""`M3Retriever`: hybrid retrieval for LlamaIndex."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
from llama_index.core.ingestion import run_transformations
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle, TransformComponent
from llama_index.core.settings import Settings
from llama_index.core.vector_stores.types import MetadataFilters

from llama_index.vector_stores.m3.filters import filter_of
from llama_index.vector_stores.m3.nodes import indexed_text_of, record_of, scored_node_of
from m3core import Fusion, M3Encoder, M3Output, Mode
from m3stores import Hit, HybridStore, QdrantStore, TextIndex
from m3stores.adapting import EXPLANATION, EncoderLike, as_encoder, closed_on_error
from m3stores.explaining import explained


class M3Retriever(BaseRetriever):
    """Dense, lexical and multi-vector retrieval at once, over a collection in this process or elsewhere.

    ```python
    from llama_index.core import Document
    from llama_index.retrievers.m3 import M3Retriever

    retriever = M3Retriever.from_documents(
        [Document(text="巴黎是法国的首都。"), Document(text="Tokyo is the capital of Japan.")],
        encoder="m3-mini",                  # BAAI/bge-m3 if left out
    )
    retriever.retrieve("法国首都在哪里？")
    ```

    With `path="./index"` the collection stays on disk, and
    `M3Retriever.from_store(QdrantStore("documents", path="./index"))` opens it again. The ranking is that of
    `M3Output.score`: the model's own weighted sum of all modes in the collection.
    """

    def __init__(
        self,
        store: HybridStore,
        encoder: M3Encoder,
        *,
        similarity_top_k: int = DEFAULT_SIMILARITY_TOP_K,
        candidates: int | None = None,
        fusion: Fusion | None = None,
        rerank: bool | None = None,
        modes: Sequence[Mode] | None = None,
        filters: MetadataFilters | dict[str, Any] | None = None,
        include_explanation: bool = False,
        **base: Any,
    ) -> None:
        """A retriever over an open collection.

        Args:
            store: the collection.
            encoder: the one that made it.
            similarity_top_k: the most nodes for a query.
            candidates: how many nodes each mode proposes; `None` means 5·k, but at least 50.
            fusion: `WeightedSum`, `RRF` or `DBSF`; `None` means the weighted sum with the model's own weights.
            rerank: whether multi-vectors score the candidates; `None` means where the collection has them.
            modes: which modes propose candidates; `None` means dense and sparse, as far as the collection has them.
            filters: LlamaIndex's, a dict as `m3stores.filters` describes it, or the store's own.
            include_explanation: whether nodes carry `metadata["_m3_explanation"]`: `Explanation.as_dict()`, with scores
                and shares, matches, alignments and highlights, by the weighted sum also where nodes are ordered by RRF
                or DBSF. Neither models nor embeddings get to see it. Encodes the nodes that were found once more.
            base: of LlamaIndex's `BaseRetriever`: `callback_manager`, `object_map`, `objects`, `verbose`.

        Raises:
            CollectionMismatch: another encoder made the collection.
            InvalidInput: filters that no store can apply.
        """
        super().__init__(**base)
        self._index = TextIndex(encoder, store)
        self._include_explanation = include_explanation
        self._options: dict[str, Any] = {
            "k": similarity_top_k,
            "candidates": candidates,
            "fusion": fusion,
            "rerank": rerank,
            "modes": modes,
            "filter": filter_of(filters) if isinstance(filters, MetadataFilters) else filters,
        }

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[BaseNode],
        *,
        encoder: EncoderLike | None = None,
        transformations: list[TransformComponent] | None = None,
        collection: str = "documents",
        path: str | Path | None = None,
        store_modes: Sequence[Mode] | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> Self:
        """Splits documents into nodes, indexes these, and returns a retriever over them.

        What is encoded of a node is its text with the metadata that LlamaIndex embeds.

        Args:
            documents: documents, or nodes.
            encoder: an encoder, or the name of a model; `None` loads BAAI/bge-m3.
            transformations: what makes nodes of documents; `None` means LlamaIndex's settings, `[]` takes them as
                they are.
            collection: the collection's name.
            path: the directory to keep it in; `None` keeps it in a temporary one while the retriever lives.
            store_modes: what to keep of `"dense"`, `"sparse"`, `"multivector"`; `None` means all that the model has.
                Multi-vectors take the most room by far: 2 kB a token with bge-m3.
            show_progress: whether to show progress bars.
            options: of the retriever, such as `similarity_top_k` and `filters`.

        Raises:
            InvalidInput: a node that cannot be stored, named.
            CollectionLocked: the collection is open elsewhere.
            CollectionMismatch: the collection was made by another encoder.
        """
        steps = Settings.transformations if transformations is None else transformations
        nodes = run_transformations(documents, steps, in_place=False, show_progress=show_progress)
        texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        with closed_on_error(QdrantStore(collection, path=path)) as store:
            retriever = cls.from_store(store, encoder=encoder, **options)
            retriever._index.add(
                [record_of(node) for node in nodes], texts=texts, modes=store_modes, show_progress=show_progress
            )
        return retriever

    @classmethod
    def from_store(cls, store: HybridStore, *, encoder: EncoderLike | None = None, **options: Any) -> Self:
        """A retriever over a collection as it is, whoever made it.

        Args:
            store: an open one.
            encoder: the one that made it, or where its model is; `None` loads that model by the collection's own word.
            options: of the retriever, such as `similarity_top_k` and `filters`.

        Raises:
            CollectionMismatch: another encoder made the collection.
        """
        return cls(store, as_encoder(encoder, store), **options)

    @property
    def store(self) -> HybridStore:
        """The collection."""
        return self._index.store

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        encoded, options = self._encoded(query_bundle)
        (hits,) = self.store.search(encoded, **options)
        nodes = [scored_node_of(hit) for hit in hits]
        if self._include_explanation:
            self._explain(nodes, query_bundle.query_str, encoded, hits)
        return nodes

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        encoded, options = await asyncio.to_thread(self._encoded, query_bundle)
        (hits,) = await self.store.asearch(encoded, **options)
        nodes = [scored_node_of(hit) for hit in hits]
        if self._include_explanation:
            await asyncio.to_thread(self._explain, nodes, query_bundle.query_str, encoded, hits)
        return nodes

    def _explain(self, nodes: list[NodeWithScore], query: str, encoded: M3Output, hits: Sequence[Hit]) -> None:
        reasons = explained(
            query,
            hits,
            self._index.encoder,
            fusion=self._options["fusion"],
            texts=[indexed_text_of(hit, found.node) for hit, found in zip(hits, nodes, strict=True)],
            encoded=encoded,
        )
        for found, why in zip(nodes, reasons, strict=True):
            found.node.metadata[EXPLANATION] = why.as_dict()
            found.node.excluded_llm_metadata_keys.append(EXPLANATION)
            found.node.excluded_embed_metadata_keys.append(EXPLANATION)

    def _encoded(self, query_bundle: QueryBundle) -> tuple[M3Output, dict[str, Any]]:
        """The query's representations; dense by what LlamaIndex embeds, where that is not its text, as with HyDE."""
        options = dict(self._options)
        encoded, options["rerank"] = self._index.encode(
            [query_bundle.query_str], rerank=options["rerank"], modes=options["modes"]
        )
        if encoded.dense is None:
            return encoded, options
        if query_bundle.embedding is not None:
            encoded = replace(encoded, dense=np.asarray([query_bundle.embedding], dtype=np.float32))
        elif query_bundle.custom_embedding_strs:
            others = self._index.encoder.encode_queries(query_bundle.custom_embedding_strs, modes=["dense"]).dense
            assert others is not None
            encoded = replace(encoded, dense=others.mean(axis=0, keepdims=True))
        return encoded, options
