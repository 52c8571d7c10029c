"""`M3Retriever`: hybrid retrieval for LangChain."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr

from langchain_m3.documents import document_of, documents_of, records_of
from langchain_m3.searching import OPTIONS, matched_tokens, merged
from m3core import DBSF, RRF, M3Encoder, M3Output, Mode, SparseVector, WeightedSum
from m3stores import Hit, HybridStore, QdrantStore, TextIndex
from m3stores.adapting import EXPLANATION, SCORES, TOKENS, EncoderLike, as_encoder, closed_on_error
from m3stores.explaining import explained


class M3Retriever(BaseRetriever):
    """Dense, lexical and multi-vector retrieval at once, over a collection in this process or elsewhere.

    ```python
    from langchain_m3 import M3Retriever

    retriever = M3Retriever.from_texts(
        ["巴黎是法国的首都。", "Tokyo is the capital of Japan."],
        [{"country": "法国"}, {"country": "Japan"}],
        encoder="m3-mini",                  # BAAI/bge-m3 if left out
    )
    retriever.invoke("法国首都在哪里？")
    retriever.invoke("法国首都在哪里？", k=1, filter={"country": "法国"})
    ```

    With `path="./index"` the collection stays on disk, and
    `M3Retriever.from_store(QdrantStore("documents", path="./index"))` opens it again. The ranking is that of
    `M3Output.score`: the model's own weighted sum of all modes in the collection.

    Why a document was found:

    ```python
    why = M3Retriever.from_store(retriever.store, include_scores=True, include_tokens=True)
    document = why.invoke("法国首都在哪里？", k=1)[0]
    document.metadata["_m3_scores"]     # {"score": …, "scores": {"dense": …, …}, "ranks": {"dense": 1, …}}
    document.metadata["_m3_tokens"]     # {"法国": 0.21, "首都": 0.18, …}
    ```

    Any option of a call may be given when it is called: `k`, `candidates`, `fusion`, `weights`, `rerank`, `modes`,
    `filter`, `score_threshold`. `ainvoke` leaves the event loop free.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    store: HybridStore
    """The collection."""
    encoder: M3Encoder
    """The encoder that made it."""
    k: int = Field(default=4, ge=1)
    """The most documents for a query."""
    candidates: int | None = None
    """How many documents each mode proposes; `None` means 5·k, but at least 50."""
    fusion: InstanceOf[WeightedSum] | InstanceOf[RRF] | InstanceOf[DBSF] | None = None
    """How the modes' scores become one; `None` means the weighted sum with the model's own weights."""
    weights: tuple[float, float, float] | None = None
    """For (dense, sparse, multi-vector) in the weighted sum, in place of `fusion`; `None` means the model's own."""
    rerank: bool | None = None
    """Whether multi-vectors score the candidates; `None` means where the collection has them."""
    modes: list[Mode] | None = None
    """Which modes propose candidates; `None` means dense and sparse, as far as the collection has them."""
    filter: Any = None
    """A dict on metadata such as `{"year": {"$gte": 2020}}` (see `m3stores.filters`), or the store's own filter."""
    score_threshold: float | None = None
    """The least fused score of a document."""
    include_scores: bool = False
    """Whether documents carry `metadata["_m3_scores"]`: the fused `score`, and by mode `scores`, `ranks`, `shares`."""
    include_tokens: bool = False
    """Whether documents carry `metadata["_m3_tokens"]`: the tokens that match lexically, by what each adds to the
    sparse score; where sparse vectors were searched."""
    include_explanation: bool = False
    """Whether documents carry `metadata["_m3_explanation"]`: `Explanation.as_dict()`, with scores and shares, matches,
    alignments and highlights, by the weighted sum also where RRF or DBSF orders documents. Encodes what was found once
    more."""

    _checked: TextIndex | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Refuses options that do not go together."""
        super().model_post_init(context)
        merged(self._defaults, {})

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str] | None = None,
        **options: Any,
    ) -> Self:
        """Indexes texts, and returns a retriever over them.

        Args:
            texts: any number of them.
            metadatas: one dict for each text.
            ids: one string for each text; `None` makes them of text and metadata, so that indexing again replaces.
            options: of `from_documents`.

        Raises:
            InvalidInput: not a list of texts, or metadata or ids of another number.
        """
        documents = documents_of(texts, metadatas, ids)
        return cls.from_documents(documents, **options)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        *,
        encoder: EncoderLike | None = None,
        collection: str = "documents",
        path: str | Path | None = None,
        store_modes: Sequence[Mode] | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> Self:
        """Indexes documents, and returns a retriever over them.

        Args:
            documents: any number of them; one without an id gets one made of its text and metadata.
            encoder: an `M3Encoder`, `M3Embeddings`, or where the model is; `None` loads BAAI/bge-m3.
            collection: the collection's name.
            path: the directory to keep it in; `None` keeps it in a temporary one while the retriever lives.
            store_modes: what to keep of `"dense"`, `"sparse"`, `"multivector"`; `None` means all that the model has.
                Multi-vectors take the most room by far: 2 kB a token with bge-m3.
            show_progress: whether to show a progress bar.
            options: fields of the retriever, such as `k` and `filter`.

        Raises:
            InvalidInput: a document that cannot be stored, named.
            CollectionLocked: the collection is open elsewhere.
            CollectionMismatch: the collection was made by another encoder.
        """
        records = records_of(documents)
        with closed_on_error(QdrantStore(collection, path=path)) as store:
            retriever = cls.from_store(store, encoder=encoder, **options)
            retriever._index.add(records, modes=store_modes, show_progress=show_progress)
        return retriever

    @classmethod
    def from_store(cls, store: HybridStore, *, encoder: EncoderLike | None = None, **options: Any) -> Self:
        """A retriever over a collection as it is.

        Args:
            store: an open one.
            encoder: the one that made it, `M3Embeddings`, or where its model is; `None` loads that model by the
                collection's own word.
            options: fields of the retriever, such as `k` and `filter`.

        Raises:
            CollectionMismatch: another encoder made the collection.
        """
        retriever = cls(store=store, encoder=as_encoder(encoder, store), **options)
        _ = retriever._index
        return retriever

    @property
    def _index(self) -> TextIndex:
        if self._checked is None:
            self._checked = TextIndex(self.encoder, self.store)  # compares the encoder with the collection's
        checked: TextIndex = self._checked
        return checked

    @property
    def _defaults(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OPTIONS}

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **overrides: Any
    ) -> list[Document]:
        options = merged(self._defaults, overrides)
        encoded, (hits,) = self._index.find([query], **options)
        sparse = self.store.vectors([hit.id for hit in hits], "sparse") if self._names_tokens(encoded) else {}
        documents = [self._document(hit, query, encoded, sparse) for hit in hits]
        if self.include_explanation:
            self._explain(documents, query, encoded, hits, options)
        return documents

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **overrides: Any
    ) -> list[Document]:
        options = merged(self._defaults, overrides)
        index = await asyncio.to_thread(lambda: self._index)  # which may ask a server
        encoded, (hits,) = await index.afind([query], **options)
        sparse = await self.store.avectors([hit.id for hit in hits], "sparse") if self._names_tokens(encoded) else {}
        documents = [self._document(hit, query, encoded, sparse) for hit in hits]
        if self.include_explanation:
            await asyncio.to_thread(self._explain, documents, query, encoded, hits, options)
        return documents

    def _names_tokens(self, query: M3Output) -> bool:
        return self.include_tokens and query.sparse is not None

    def _explain(
        self, documents: list[Document], query: str, encoded: M3Output, hits: Sequence[Hit], options: Mapping[str, Any]
    ) -> None:
        reasons = explained(query, hits, self.encoder, fusion=options["fusion"], encoded=encoded)
        for document, why in zip(documents, reasons, strict=True):
            document.metadata[EXPLANATION] = why.as_dict()

    def _document(self, hit: Hit, query: str, encoded: M3Output, sparse: Mapping[str, Any]) -> Document:
        document = document_of(hit)
        if self.include_scores:
            scores = {"scores": dict(hit.scores), "ranks": dict(hit.ranks), "shares": dict(hit.shares)}
            document.metadata[SCORES] = {"score": hit.score} | scores
        if self.include_tokens and encoded.sparse is not None and isinstance(sparse.get(hit.id), SparseVector):
            tokens = matched_tokens(self.encoder, query, encoded.sparse[0], sparse[hit.id])
            document.metadata[TOKENS] = tokens
        return document

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        return LangSmithRetrieverParams(
            ls_retriever_name="m3",
            ls_vector_store_provider=type(self.store).__name__,
            ls_embedding_provider="m3",
            ls_embedding_model=self.encoder.fingerprint.model,
        )
