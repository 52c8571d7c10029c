"""`M3Embedding`: the dense vectors of an M3 model for LlamaIndex."""

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr

from m3core import InvalidInput, M3Encoder
from m3core.lazy import LazyEncoder


class M3Embedding(BaseEmbedding):
    """Dense embeddings by a model of the M3 families.

    ```python
    from llama_index.core import Document, VectorStoreIndex
    from llama_index.embeddings.m3 import M3Embedding

    index = VectorStoreIndex.from_documents(
        [Document(text="巴黎是法国的首都。"), Document(text="Tokyo is the capital of Japan.")],
        embed_model=M3Embedding("m3-mini"),    # M3Embedding() is BAAI/bge-m3
    )
    index.as_retriever(similarity_top_k=1).retrieve("法国首都在哪里？")
    ```

    The model loads with the first text. `encoder` gives it, with all its modes; `llama_index.retrievers.m3.M3Retriever`
    uses them together.
    """

    model_name: str = Field(default="BAAI/bge-m3", description="A hub id, a directory, or 'm3-mini'.")
    device: str | None = Field(default=None, description="Such as 'cpu', 'cuda:1', 'mps'; None takes the best.")
    dtype: str = Field(default="auto", description="'auto', 'float32' or 'bfloat16'.")
    max_length: int | None = Field(default=None, description="Cut texts at this many tokens.")
    normalize: bool | None = Field(default=None, description="Unit length or not; None does as the model says.")
    query_instruction: str | None = Field(default=None, description="Put before each query; M3 models want none.")
    endpoint: str | None = Field(default=None, description="The address of a model hub or mirror.")
    revision: str | None = Field(default=None, description="A hub branch, tag or commit.")
    batch_tokens: int | None = Field(default=None, description="The most tokens to put through the model at once.")
    embed_batch_size: int = Field(default=256, gt=0, le=2048, description="Texts in one call of the encoder.")

    _encoder: LazyEncoder = PrivateAttr()

    def __init__(self, model_name: str = "BAAI/bge-m3", **fields: Any) -> None:
        """Notes how to load the model.

        Args:
            model_name: a hub id, a directory, or `"m3-mini"`.
            fields: the other fields, by name.

        Raises:
            InvalidInput: a field that there is not.
        """
        unknown = sorted(set(fields) - set(type(self).model_fields) - {"class_name"})
        if unknown:
            raise InvalidInput(f"M3Embedding has no field {', '.join(unknown)}")
        super().__init__(model_name=model_name, **fields)
        self._encoder = LazyEncoder(
            model=self.model_name,
            device=self.device,
            dtype=self.dtype,
            max_length=self.max_length,
            normalize=self.normalize,
            instruction=self.query_instruction,
            endpoint=self.endpoint,
            revision=self.revision,
            batch_tokens=self.batch_tokens,
        )

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's registries."""
        return "M3Embedding"

    @property
    def encoder(self) -> M3Encoder:
        """The encoder, loaded if need be."""
        return self._encoder.get()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._encoder.dense([query], queries=True)[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return (await self._encoder.adense([query], queries=True))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._encoder.dense([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._encoder.adense([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._encoder.dense(texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._encoder.adense(texts)
