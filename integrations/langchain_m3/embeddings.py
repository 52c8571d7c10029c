"""`M3Embeddings`: the dense vectors of an M3 model for LangChain."""

from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.utils import from_env
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from m3core import M3Encoder
from m3core.lazy import LazyEncoder


class M3Embeddings(BaseModel, Embeddings):
    """Dense embeddings by a model of the M3 families, for whatever takes LangChain embeddings.

    ```python
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_m3 import M3Embeddings

    embeddings = M3Embeddings(model="m3-mini")    # M3Embeddings() is BAAI/bge-m3
    store = InMemoryVectorStore.from_texts(["巴黎是法国的首都。", "Tokyo is the capital of Japan."], embeddings)
    store.similarity_search("法国首都在哪里？", k=1)
    ```

    The model loads with the first text. `encoder` gives it, with all its modes; `M3Retriever` uses them together.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), populate_by_name=True)

    model_name: str = Field(default_factory=from_env("M3_MODEL", default="BAAI/bge-m3"), alias="model")
    """A hub id, a directory, or `"m3-mini"`. Also read from `M3_MODEL`."""
    device: str | None = Field(default_factory=from_env("M3_DEVICE", default=None))
    """Such as `"cpu"`, `"cuda:1"`, `"mps"`; `None` takes the best there is. Also read from `M3_DEVICE`."""
    dtype: str = "auto"
    """`"auto"`, `"float32"` or `"bfloat16"`."""
    max_length: int | None = None
    """Cut texts at this many tokens; `None` takes the model's own limit."""
    normalize: bool | None = None
    """Whether vectors get unit length; `None` does as the model says."""
    query_instruction: str | None = None
    """Put before each query; the M3 families want none."""
    endpoint: str | None = None
    """The address of a model hub or mirror; `None` takes `HF_ENDPOINT`, or else the public hub."""
    revision: str | None = None
    """A hub branch, tag or commit."""
    batch_tokens: int | None = None
    """The most tokens to put through the model at once."""
    show_progress: bool = False
    """Whether `embed_documents` shows a progress bar."""

    _encoder: LazyEncoder = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Notes how to load the model."""
        self._encoder = LazyEncoder(
            model=self.model_name,
            instruction=self.query_instruction,
            **self.model_dump(exclude={"model_name", "query_instruction", "show_progress"}),
        )

    @property
    def encoder(self) -> M3Encoder:
        """The encoder, loaded if need be."""
        return self._encoder.get()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The dense vectors of texts.

        Args:
            texts: any number of them.

        Returns:
            A vector for each.
        """
        return self._encoder.dense(texts, show_progress=self.show_progress)

    def embed_query(self, text: str) -> list[float]:
        """The dense vector of a query.

        Args:
            text: the query.

        Returns:
            Its vector.
        """
        return self._encoder.dense([text], queries=True)[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents` without blocking the event loop."""
        return await self._encoder.adense(texts)

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query` without blocking the event loop."""
        return (await self._encoder.adense([text], queries=True))[0]
