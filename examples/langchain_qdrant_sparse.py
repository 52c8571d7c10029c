"""A collection of langchain-qdrant's own, made hybrid by `M3Embeddings` and `M3SparseEmbeddings`: one model for both.

pip install langchain-qdrant
python examples/langchain_qdrant_sparse.py                                    # Qdrant in memory
python examples/langchain_qdrant_sparse.py --url http://localhost:6333        # a server; the collection stays there

For a new project take `M3VectorStore` or `M3Retriever`: they search by multi-vectors too, and weigh the modes as the
model was made for, where langchain-qdrant's hybrid mode counts ranks only.
"""

import argparse
import time
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from langchain_core.documents import Document
from langchain_qdrant import QdrantVectorStore, RetrievalMode
from qdrant_client import QdrantClient, models

from langchain_m3 import M3Embeddings, M3SparseEmbeddings
from m3core.records import read_records

CORPUS = Path(__file__).parent / "data" / "debate" / "corpus.jsonl"
COLLECTION = "langchain-debate"


def connect(url: str | None, width: int) -> QdrantClient:
    """A client, and a collection as an application may have it already, with langchain-qdrant's names."""
    client = QdrantClient(url=url) if url else QdrantClient(":memory:")
    if not client.collection_exists(COLLECTION):
        client.create_collection(
            COLLECTION,
            vectors_config=models.VectorParams(size=width, distance=models.Distance.COSINE),
            sparse_vectors_config={QdrantVectorStore.SPARSE_VECTOR_NAME: models.SparseVectorParams()},
        )
    return client


def main() -> None:
    """Shows that both embeddings share a forward pass, fills the collection, and searches it in three modes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="“少睡47分钟”这个数据出自哪家机构、怎么测的？")
    parser.add_argument("--model", default="m3-mini", help="BAAI/bge-m3 where there is a network")
    parser.add_argument("--url", help="of a Qdrant server")
    options = parser.parse_args()

    # The same settings, so they share one encoder. While both live, whichever is asked first has both representations
    # made; the other one's wait in a cache. With different settings each text would go through two models.
    dense, sparse = M3Embeddings(model=options.model), M3SparseEmbeddings(model=options.model)
    assert dense.encoder is sparse.encoder
    records = list(read_records(CORPUS))
    for embeddings in (dense, sparse):
        start = time.perf_counter()
        embeddings.embed_documents([record.text for record in records[:64]])
        print(f"{type(embeddings).__name__:18}  64 texts in {time.perf_counter() - start:.3f} s")

    client = connect(options.url, len(dense.embed_query("width")))
    stores = {
        mode: QdrantVectorStore(client, COLLECTION, embedding=dense, sparse_embedding=sparse, retrieval_mode=mode)
        for mode in (RetrievalMode.DENSE, RetrievalMode.SPARSE, RetrievalMode.HYBRID)
    }
    stores[RetrievalMode.HYBRID].add_documents(
        [Document(r.text, metadata={"name": r.id, **r.metadata}) for r in records],
        ids=[str(uuid5(NAMESPACE_URL, r.id)) for r in records],  # so that a second run stores nothing twice
    )
    print(f"\n{options.question}")
    only_con = models.Filter(must=[models.FieldCondition(key="metadata.side", match=models.MatchValue(value="con"))])
    for name, where in (("all", None), ("con only", only_con)):
        for mode, store in stores.items():
            print(f"  {name:9} {mode.value:7}", end="")
            for document, score in store.similarity_search_with_score(options.question, k=2, filter=where):
                print(f"  {score:.3f} {document.metadata['name']:20}", end="")
            print()


if __name__ == "__main__":
    main()
