"""LangChain's own tests for integrations, whole."""

from pathlib import Path

import pytest
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests
from store_home import Home

from langchain_m3 import M3Embeddings, M3Retriever, M3VectorStore
from m3core import M3Encoder
from m3stores import QdrantStore, Record, TextIndex


class TestM3EmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[M3Embeddings]:
        return M3Embeddings

    @property
    def embedding_model_params(self) -> dict:
        return {"model": "m3-mini"}

    @property
    def init_from_env_params(self) -> tuple[dict, dict, dict]:
        return (
            {"M3_MODEL": "moka-ai/m3e-base", "M3_DEVICE": "cuda:1"},
            {},
            {"model_name": "moka-ai/m3e-base", "device": "cuda:1"},
        )


class TestM3EmbeddingsIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[M3Embeddings]:
        return M3Embeddings

    @property
    def embedding_model_params(self) -> dict:
        return {"model": "m3-mini"}


class TestM3Retriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _filled(self, mini: M3Encoder, debate_texts: list[str], tmp_path: Path):
        with QdrantStore("debate", path=tmp_path) as store:
            TextIndex(mini, store).add([Record(str(i), text) for i, text in enumerate(debate_texts[:20])])
            self.parameters = {"store": store, "encoder": mini}
            yield

    @property
    def retriever_constructor(self) -> type[M3Retriever]:
        return M3Retriever

    @property
    def retriever_constructor_params(self) -> dict:
        return self.parameters

    @property
    def retriever_query_example(self) -> str:
        return "人工智能会取代教师吗？"


KEPT = {"dense": ["dense"], "hybrid": ["dense", "sparse"], "hybrid reranked": ["dense", "sparse", "multivector"]}


class TestM3VectorStore(VectorStoreIntegrationTests):
    """In every kind of store, by every combination of modes."""

    @pytest.fixture(params=KEPT)
    def vectorstore(self, request: pytest.FixtureRequest, home: Home, mini: M3Encoder) -> M3VectorStore:
        return M3VectorStore(home.open(), mini, store_modes=KEPT[request.param])
