"""`QdrantStore`: hybrid collections in Qdrant, embedded in this process."""

from pathlib import Path

from m3stores.qdrant.edge import EdgeEngine
from m3stores.store import HybridStore


class QdrantStore(HybridStore):
    """A hybrid collection in Qdrant's engine, in this process and on this disk. No server.

    ```python
    from m3core import M3Encoder
    from m3stores import QdrantStore, Record

    encoder = M3Encoder("m3-mini")
    records = [
        Record("paris", "巴黎是法国的首都。", {"language": "zh"}),
        Record("tokyo", "Tokyo is the capital of Japan.", {"language": "en"}),
    ]
    with QdrantStore("capitals", path="./index") as store:
        store.upsert(records, encoder.encode_documents([r.text for r in records]))
        query = encoder.encode_queries(["法国首都在哪里？"])
        hits = store.search(query, k=1, rerank=True, filter={"language": "zh"})[0]
        hits[0].score, hits[0].scores
    ```

    The engine is qdrant-edge, which its makers call beta. One process at a time can have a collection open, and a
    forked child cannot use it; a second one gets an error and does no harm. What `upsert` and `delete` have done stays
    done when the process is killed. Search is exact.
    """

    def __init__(self, collection: str, *, path: str | Path | None = None) -> None:
        """Opens a collection, or prepares a new one: it comes into being with the first `upsert`.

        Args:
            collection: its name: letters, digits, `_`, `-`, `.`.
            path: the directory that holds it and others; `None` means a temporary one, which goes when the store is
                closed.

        Raises:
            InvalidInput: a name or a path that cannot be used.
            CollectionLocked: it is open already, here or in another process.
            StoreError: what is there cannot be opened.
            MissingDependency: `m3-retrieval[qdrant]` is not installed.
        """
        super().__init__(collection, EdgeEngine(collection, path))
