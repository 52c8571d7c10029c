"""`M3Retriever`: hybrid retrieval for LangChain."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, Field, InstanceOf

from m3core import DBSF, RRF, InvalidInput, M3Encoder, Mode, WeightedSum
from m3core.tokenizer import check_texts
from m3stores import Hit, HybridStore, QdrantStore, Record, TextIndex
from m3stores.adapting import RESERVED, as_encoder, closed_on_error, content_ids, own_metadata, visible_metadata

_OVERRIDES = ("k", "candidates", "fusion", "rerank", "modes", "filter")


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
    rerank: bool | None = None
    """Whether multi-vectors score the candidates; `None` means where the collection has them."""
    modes: list[Mode] | None = None
    """Which modes propose candidates; `None` means dense and sparse, as far as the collection has them."""
    filter: Any = None
    """A dict on metadata such as `{"year": {"$gte": 2020}}` (see `m3stores.filters`), or the store's own filter."""
    include_scores: bool = False
    """Whether documents carry `metadata["_m3_scores"]`: the fused `score`, and `scores` and `ranks` by mode."""

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
        listed = check_texts(texts)
        about = [{} for _ in listed] if metadatas is None else list(metadatas)
        named = [None] * len(listed) if ids is None else list(ids)
        if not len(listed) == len(about) == len(named):
            raise InvalidInput(f"{len(listed)} texts come with {len(about)} metadatas and {len(named)} ids")
        for number, metadata in enumerate(about):
            if not isinstance(metadata, Mapping):
                raise InvalidInput(f"metadata {number} is a {type(metadata).__name__}, not a dict")
        documents = [Document(t, metadata=dict(m), id=i) for t, m, i in zip(listed, about, named, strict=True)]
        return cls.from_documents(documents, **options)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        *,
        encoder: M3Encoder | str | Path | None = None,
        collection: str = "documents",
        path: str | Path | None = None,
        store_modes: Sequence[Mode] | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> Self:
        """Indexes documents, and returns a retriever over them.

        Args:
            documents: any number of them; one without an id gets one made of its text and metadata.
            encoder: an encoder, or the name of a model; `None` loads BAAI/bge-m3.
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
        listed = list(documents)
        made = content_ids((d.page_content for d in listed), (d.metadata for d in listed))
        records = [
            Record(d.id or i, d.page_content, own_metadata(d.metadata)) for d, i in zip(listed, made, strict=True)
        ]
        with closed_on_error(QdrantStore(collection, path=path)) as store:
            retriever = cls.from_store(store, encoder=encoder, **options)
            retriever._index.add(records, modes=store_modes, show_progress=show_progress)
        return retriever

    @classmethod
    def from_store(cls, store: HybridStore, *, encoder: M3Encoder | str | Path | None = None, **options: Any) -> Self:
        """A retriever over a collection as it is.

        Args:
            store: an open one.
            encoder: the one that made it, or where its model is; `None` loads that model by the collection's own word.
            options: fields of the retriever, such as `k` and `filter`.

        Raises:
            CollectionMismatch: another encoder made the collection.
        """
        retriever = cls(store=store, encoder=as_encoder(encoder, store), **options)
        _ = retriever._index  # compares the encoder with the collection's
        return retriever

    @property
    def _index(self) -> TextIndex:
        return TextIndex(self.encoder, self.store)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **overrides: Any
    ) -> list[Document]:
        (hits,) = self._index.search([query], **self._options(overrides))
        return [self._document(hit) for hit in hits]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **overrides: Any
    ) -> list[Document]:
        (hits,) = await self._index.asearch([query], **self._options(overrides))
        return [self._document(hit) for hit in hits]

    def _options(self, overrides: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(overrides) - set(_OVERRIDES))
        if unknown:
            raise InvalidInput(f"a call takes {', '.join(_OVERRIDES)}, not {', '.join(unknown)}")
        return {name: getattr(self, name) for name in _OVERRIDES} | overrides

    def _document(self, hit: Hit) -> Document:
        metadata = visible_metadata(hit.metadata)
        if self.include_scores:
            metadata[RESERVED + "scores"] = {"score": hit.score, "scores": dict(hit.scores), "ranks": dict(hit.ranks)}
        return Document(hit.text, metadata=metadata, id=hit.id)

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        return LangSmithRetrieverParams(
            ls_retriever_name="m3",
            ls_vector_store_provider=type(self.store).__name__,
            ls_embedding_provider="m3",
            ls_embedding_model=self.encoder.fingerprint.model,
        )
