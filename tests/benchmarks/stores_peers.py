"""The peers of the store benchmark, each used as its documentation shows. Runs in their environment."""

from pathlib import Path
from typing import Any

from stores_data import LOW, WIDTH, Block, Query

K, CANDIDATES = 10, 50


class Local:
    """qdrant-client's local mode."""

    packages = ("qdrant-client",)
    _prefix = ""

    def __init__(self, path: Path) -> None:
        from qdrant_client import QdrantClient, models

        self._path = path
        self._make, self._models = QdrantClient, models
        self._client: Any = None

    def open(self) -> None:
        self._client = self._make(path=str(self._path))
        if not self._client.collection_exists("benchmark"):
            dense = self._models.VectorParams(size=WIDTH, distance=self._models.Distance.DOT)
            self._client.create_collection(
                "benchmark", {"dense": dense}, sparse_vectors_config={"sparse": self._models.SparseVectorParams()}
            )

    def prepare(self, block: Block) -> Any:
        held = zip(block.rows, block.dense.tolist(), block.sparse, block.texts, block.metadata(), strict=True)
        return [
            self._models.PointStruct(
                id=row, vector={"dense": dense, "sparse": self._sparse(sparse)}, payload={"text": text, **metadata}
            )
            for row, dense, sparse, text, metadata in held
        ]

    def write(self, prepared: Any) -> None:
        self._client.upsert("benchmark", prepared)

    def question(self, query: Query, workload: str) -> Any:
        dense, sparse = query.dense.tolist(), self._sparse(query.sparse)
        if workload in ("dense", "sparse"):
            return {"query": dense if workload == "dense" else sparse, "using": workload}
        filter = self._filter(query, workload)
        legs = [
            self._models.Prefetch(query=vector, using=name, limit=CANDIDATES, filter=filter)
            for name, vector in (("dense", dense), ("sparse", sparse))
        ]
        return {"prefetch": legs, "query": self._models.FusionQuery(fusion=self._models.Fusion.RRF)}

    def search(self, question: Any) -> list[int]:
        return [point.id for point in self._client.query_points("benchmark", limit=K, **question).points]

    def close(self) -> None:
        self._client.close()

    def _sparse(self, vector: Any) -> Any:
        return self._models.SparseVector(indices=vector[0].tolist(), values=vector[1].tolist())

    def _filter(self, query: Query, workload: str) -> Any:
        models, path = self._models, self._prefix + workload
        if workload == "group":
            return models.Filter(must=[models.FieldCondition(key=path, match=models.MatchValue(value=query.group))])
        if workload == "number":
            return models.Filter(must=[models.FieldCondition(key=path, range=models.Range(lt=LOW))])
        return None


class Stub:
    """An embedding model that knows the vectors of some texts already."""

    def __init__(self, unknown: Any) -> None:
        self._unknown = unknown
        self._known: dict[str, Any] = {}

    def learn(self, texts: list[str], vectors: list[Any]) -> None:
        """These, in place of those before."""
        self._known = dict(zip(texts, vectors, strict=True))

    def embed_documents(self, texts: list[str]) -> list[Any]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> Any:
        return self._known.get(text, self._unknown)


def dense_stub() -> Stub:
    """One that LangChain takes for a model of dense vectors."""
    from langchain_core.embeddings import Embeddings

    return type("DenseStub", (Stub, Embeddings), {})([0.0] * WIDTH)


class LangChainQdrant(Local):
    """langchain-qdrant over qdrant-client's local mode."""

    packages = ("langchain-qdrant", *Local.packages)
    _prefix = "metadata."

    def __init__(self, path: Path) -> None:
        from langchain_qdrant import SparseVector

        super().__init__(path)
        self._vector = SparseVector
        self._dense_model, self._sparse_model = dense_stub(), Stub(SparseVector(indices=[0], values=[0.0]))
        self._stores: dict[str, Any] = {}

    def open(self) -> None:
        from langchain_qdrant import QdrantVectorStore, RetrievalMode

        super().open()
        for mode in RetrievalMode:
            self._stores[mode.value] = QdrantVectorStore(
                self._client,
                "benchmark",
                embedding=self._dense_model,
                sparse_embedding=self._sparse_model,
                retrieval_mode=mode,
                vector_name="dense",
                sparse_vector_name="sparse",
                distance=self._models.Distance.DOT,
            )

    def prepare(self, block: Block) -> Any:
        sparse = [self._sparse(vector) for vector in block.sparse]
        return block.texts, block.dense.tolist(), sparse, block.metadata(), block.rows

    def write(self, prepared: Any) -> None:
        texts, dense, sparse, metadata, ids = prepared
        self._dense_model.learn(texts, dense)
        self._sparse_model.learn(texts, sparse)
        self._stores["hybrid"].add_texts(texts, metadata, ids)

    def question(self, query: Query, workload: str) -> Any:
        mode = workload if workload in ("dense", "sparse") else "hybrid"
        return mode, query.text, query.dense.tolist(), self._sparse(query.sparse), self._filter(query, workload)

    def search(self, question: Any) -> list[int]:
        mode, text, dense, sparse, filter = question
        self._dense_model.learn([text], [dense])
        self._sparse_model.learn([text], [sparse])
        found = self._stores[mode].similarity_search(text, k=K, filter=filter)
        return [document.metadata["_id"] for document in found]

    def _sparse(self, vector: Any) -> Any:
        return self._vector(indices=vector[0].tolist(), values=vector[1].tolist())


class LangChainChroma:
    """langchain-chroma: dense vectors only."""

    packages = ("langchain-chroma", "chromadb")

    def __init__(self, path: Path) -> None:
        from langchain_chroma import Chroma

        self._path = path
        self._make = Chroma
        self._model = dense_stub()
        self._store: Any = None

    def open(self) -> None:
        self._store = self._make("benchmark", self._model, persist_directory=str(self._path))

    def prepare(self, block: Block) -> Any:
        return block.texts, block.dense.tolist(), block.metadata(), [str(row) for row in block.rows]

    def write(self, prepared: Any) -> None:
        texts, dense, metadata, ids = prepared
        self._model.learn(texts, dense)
        self._store.add_texts(texts, metadata, ids)

    def question(self, query: Query, workload: str) -> Any:
        filters = {"group": {"group": query.group}, "number": {"number": {"$lt": LOW}}}
        return query.text, query.dense.tolist(), filters.get(workload)

    def search(self, question: Any) -> list[int]:
        text, dense, filter = question
        self._model.learn([text], [dense])
        return [int(document.id) for document in self._store.similarity_search(text, k=K, filter=filter)]

    def close(self) -> None:
        self._store._client.close()


KINDS: dict[str, Any] = {
    "qdrant-client": Local,
    "langchain-qdrant": LangChainQdrant,
    "langchain-chroma": LangChainChroma,
}
