"""`QdrantStore`: hybrid collections in Qdrant, embedded in this process or on a server."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from m3core import InvalidInput, M3Error, M3Warning
from m3stores.engine import finished
from m3stores.qdrant.calls import Calls, load_client
from m3stores.qdrant.edge import EdgeEngine
from m3stores.qdrant.layout import OURS, Layout, QdrantSettings
from m3stores.qdrant.server import Known, ServerEngine
from m3stores.store import HybridStore


class QdrantStore(HybridStore):
    """A hybrid collection in Qdrant, in this process and on this disk, or on a server.

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

    With `path=`, or neither, the engine is qdrant-edge, in this process, which its makers call beta. One process at a
    time can have a collection open, and a forked child cannot use it; a second one gets an error and does no harm. What
    `upsert` and `delete` have done stays done when the process is killed. Search is exact until `optimize` is called.

    With `url=` the same collection is on a Qdrant server, 1.16 or later. Calls are tried again where the server is busy
    or the connection breaks. `collection` may be an alias there: each operation then goes to the collection that it
    points to at the time. When it moves to one of another encoder, open a new store.
    """

    def __init__(
        self,
        collection: str,
        *,
        path: str | Path | None = None,
        url: str | None = None,
        api_key: str | None = None,
        prefer_grpc: bool = False,
        grpc_port: int = 6334,
        timeout: int = 60,
        layout: Layout = OURS,
        settings: QdrantSettings | None = None,
        adopt: bool = False,
    ) -> None:
        """Opens a collection, or prepares a new one: it comes into being with the first `upsert`.

        Args:
            collection: its name: letters, digits, `_`, `-`, `.`.
            path: the directory that holds it and others; `None` means a temporary one, which goes when the store is
                closed.
            url: of a server, in place of `path`: `http://localhost:6333`.
            api_key: the server's.
            prefer_grpc: whether to talk gRPC to the server, which is faster with multi-vectors.
            grpc_port: the server's port for that.
            timeout: of a call to the server, in seconds.
            layout: names in a server's collection that another program made, such as `LANGCHAIN`.
            settings: how a new collection keeps its vectors.
            adopt: whether to write to a collection that another program made. The first upsert says by which encoder
                its vectors are.

        Raises:
            InvalidInput: a name, a path or a combination that cannot be used.
            CollectionLocked: it is open already, here or in another process.
            StoreError: what is there cannot be opened, or the server does not answer.
            MissingDependency: `m3-retrieval[qdrant]` is not installed.
        """
        settings = settings or QdrantSettings()
        self._edge: EdgeEngine | None = None
        self._server: ServerEngine | None = None
        known = self._known = Known()
        if url is None:
            if layout != OURS or adopt or api_key or prefer_grpc or settings.of_servers():
                raise InvalidInput(
                    "layout, adopt, api_key, prefer_grpc, shards and replicas are for a server: give its url"
                )
            self._edge = EdgeEngine(collection, path, settings)
            super().__init__(collection, self._edge, adopt=False)
            return
        if path is not None:
            raise InvalidInput("a store has either a path or a url")
        if urlsplit(url).password or urlsplit(url).username:
            raise InvalidInput("a url with a password in it would end up in messages: give an api_key")
        qdrant_client = load_client()
        arguments = {
            "url": url,
            "api_key": api_key,
            "prefer_grpc": prefer_grpc,
            "grpc_port": grpc_port,
            "timeout": timeout,
            "check_compatibility": False,
        }

        def engine(client: Callable[..., Any], blocking: bool) -> ServerEngine:
            calls = Calls(lambda: client(**arguments), url, blocking=blocking)
            return ServerEngine(collection, calls, known, url=url, layout=layout, settings=settings, grpc=prefer_grpc)

        self._server = engine(qdrant_client.QdrantClient, True)
        super().__init__(
            collection,
            self._server,
            adopt=adopt,
            async_engine=lambda: engine(qdrant_client.AsyncQdrantClient, False),
        )
        self._opening = {
            "url": url,
            "api_key": api_key,
            "prefer_grpc": prefer_grpc,
            "grpc_port": grpc_port,
            "timeout": timeout,
            "layout": layout,
            "settings": settings,
            "adopt": adopt,
        }
        finished(self._engine.schema())  # so that a wrong url shows here
        if known.deferred:
            warnings.warn(
                f"collection {collection!r} is being bulk-loaded, or the process that did so was killed: its dense "
                "vectors are searched without their graph, slowly. If nobody loads it, put that right by "
                "`with store.bulk_load(): pass`, or by m3 index --bulk again",
                M3Warning,
                stacklevel=2,
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """See `HybridStore`. A copy that is made within a bulk load belongs to it."""
        return *super().__reduce__(), self._known.deferring

    def __setstate__(self, deferring: bool) -> None:
        """Of a copy."""
        self._known.deferring = deferring

    def optimize(self) -> None:
        """Builds the index of the dense vectors and tidies up: searches of 100,000 records get five times as fast.

        Takes a minute for as many, in a process of its own; the store waits for it. Searches without a filter are
        approximate afterwards, with what was written later searched exactly.

        Raises:
            InvalidInput: on a server, which does that by itself.
        """
        if self._edge is None:
            raise InvalidInput("a Qdrant server optimizes its collections by itself")
        self._edge.optimize()

    @contextmanager
    def bulk_load(self, *, timeout: float = 86_400.0, show_progress: bool = False) -> Iterator[None]:
        """Within it a server takes many records faster: it builds the graph of the dense vectors once, at the end.

        ```python
        with store.bulk_load():
            for records, output in portions:
                store.upsert(records, output)
        ```

        For a new collection, which may come into being within it, or as many records as there are: the graph of those
        is built anew. Searches go on meanwhile, exact and slower. At the end, after an exception too, the collection's
        settings are put back; if all went well, it then waits until the server has built everything. If the process is
        killed, the settings stay as they are until the next `bulk_load`, which puts the original ones back, and whoever
        opens the collection is warned.

        Several loads may go on at once. The first one that ends puts the settings back; for the others nothing is lost,
        but the graph is built while they write.

        An embedded collection has no graph until `optimize`: there is nothing to put off, and nothing is done. An event
        loop stands still while a load begins and ends.

        Args:
            timeout: how long to wait at the end, in seconds.
            show_progress: whether to show a progress bar meanwhile.

        Raises:
            CollectionMismatch: another program made the collection, and it was not opened with `adopt=True`.
            StoreError: the server failed while it built the graph, or was not ready in time; all records are there.
        """
        if (schema := self.schema) is not None:
            self._operations.check_ours(schema)
        if (server := self._server) is None:
            yield
            return
        try:
            finished(server.begin_bulk())
            yield
        except BaseException as error:
            try:
                finished(server.end_bulk())
            except M3Error as failure:
                error.add_note(f"The collection's settings could not be put back either, until bulk_load(): {failure}")
            raise
        finished(server.end_bulk())
        finished(server.built(timeout, show_progress))

    def aliased(self, alias: str) -> str | None:
        """The collection that an alias on the server points to; `None` if there is no such alias yet.

        Raises:
            InvalidInput: no alias can have this name, as a collection has it; or the collection is embedded.
        """
        return finished(self._of_aliases().aliased(alias))

    def point_alias(self, alias: str) -> str | None:
        """Makes an alias on the server point to this collection, in place of another one.

        Who searches by the alias, as `QdrantStore(alias, url=…)`, searches the former collection up to this moment and
        this one from then on; none of them fails. So texts are indexed anew, in a collection of another name, without
        searches standing still.

        Returns:
            The collection that it pointed to before; `None` if there was no such alias.

        Raises:
            InvalidInput: no alias can have this name, as a collection has it; this collection does not exist, or is
                embedded.
        """
        return finished(self._of_aliases().point_alias(alias))

    def _of_aliases(self) -> ServerEngine:
        if self._server is None:
            raise InvalidInput("aliases are for collections on a server: give its url")
        return self._server
