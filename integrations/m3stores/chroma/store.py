"""`ChromaStore`: hybrid collections in Chroma, embedded in this process or on a server."""

import hashlib
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from m3core import InvalidInput, MissingDependency
from m3stores.chroma.collection import ChromaCollection
from m3stores.chroma.engine import ChromaEngine
from m3stores.chroma.guard import closed, opened
from m3stores.chroma.marks import Marks
from m3stores.chroma.sidecar import Sidecar
from m3stores.engine import finished
from m3stores.store import HybridStore

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,198}[a-zA-Z0-9]")  # and room for another ending


class ChromaStore(HybridStore):
    """A hybrid collection in Chroma, on this disk or on a server.

    Chroma itself keeps and searches dense vectors only, unless it is Chroma Cloud. So the sparse vector of a record
    travels in its metadata, and this process keeps an exact index of all of them in memory, about 3 kB a record of 100
    tokens, read from the collection when it is first needed (10 seconds for 100,000 records). Multi-vectors are in an
    SQLite file beside the collection.

    ```python
    from m3core import M3Encoder
    from m3stores import ChromaStore, Record

    encoder = M3Encoder("m3-mini")
    with ChromaStore("capitals", path="./chroma") as store:
        store.upsert([Record("paris", "巴黎是法国的首都。")], encoder.encode_documents(["巴黎是法国的首都。"]))
        hits = store.search(encoder.encode_queries(["法国首都在哪里？"]), k=1, rerank=True)[0]
    ```

    Metadata is what Chroma can hold: texts, numbers, booleans, and lists of one of these; no dicts. With `path=` one
    process at a time can have the directory open: Chroma itself would silently lose records.

    In this process, Chroma lets no other thread run while it writes. So the async methods write in short turns, with
    rests between for the event loop, and take ten times as long as the plain ones: 2 seconds for 400 records.
    """

    def __init__(
        self,
        collection: str,
        *,
        path: str | Path | None = None,
        url: str | None = None,
        headers: dict[str, str] | None = None,
        sidecar: str | Path | None = None,
        refresh: float = 1.0,
        adopt: bool = False,
    ) -> None:
        """Opens a collection, or prepares a new one: it comes into being with the first `upsert`.

        Args:
            collection: its name: 3 to 200 of the letters a–z and A–Z, digits, `_`, `-`, `.`.
            path: the directory that holds it and others; `None` means a temporary one, which goes when the store is
                closed.
            url: of a server, in place of `path`: `http://localhost:8000`.
            headers: of each request to the server, such as `{"Authorization": "Bearer …"}`.
            sidecar: with a server, the directory of this collection's multi-vectors, on this machine; `None` means
                that it has none.
            refresh: seconds until the sparse vectors that other programs write are noticed.
            adopt: whether to write to a collection that another program made. The first upsert says by which encoder
                its vectors are.

        Raises:
            InvalidInput: a name, a path or a combination that cannot be used.
            CollectionLocked: the directory is open in another process, or the collection in this one.
            StoreError: what is there cannot be opened, or the server does not answer.
            MissingDependency: `m3-retrieval[chroma]` is not installed.
        """
        chromadb = _load_chromadb()
        if not isinstance(collection, str) or not _NAME.fullmatch(collection):
            raise InvalidInput(
                "a collection's name in Chroma is 3 to 200 of the letters a-z and A-Z, digits, '_', '-' and '.', and "
                f"begins and ends with a letter or digit; {collection!r} does not fit"
            )
        if path is not None and url is not None:
            raise InvalidInput("a store has either a path or a url")
        if url is None and (headers or sidecar):
            raise InvalidInput("headers and sidecar are for a server: give its url")
        if url is None:
            place: _Directory | _Server = _Directory(collection, path)
        else:
            place = _Server(chromadb.HttpClient, collection, url, headers, sidecar)
        try:
            engine = ChromaEngine(
                place.collection, marks=place.marks, sidecar=place.sidecar, address=place.address, refresh=refresh
            )
            weakref.finalize(engine, place.close)
            self._place = place
            super().__init__(collection, engine, adopt=adopt)
            if url is not None and sidecar is None:  # which is a file of this machine
                self._opening = {"url": url, "headers": headers, "refresh": refresh, "adopt": adopt}
            finished(engine.schema())  # so that what cannot be opened shows here
        except BaseException:
            place.close()
            raise

    def close(self) -> None:
        """Closes the store; a temporary collection is removed. May be called twice."""
        super().close()
        self._place.close()


class _Directory:
    """Where an embedded collection is, and what has to be closed."""

    marks = None

    def __init__(self, collection: str, path: str | Path | None) -> None:
        self._pid = os.getpid()
        self._name = collection
        self._temporary = Path(tempfile.mkdtemp(prefix="m3-chroma-")) if path is None else None
        self._directory = Path(path or self._temporary or ".").absolute()
        self.address = None if path is None else f"chroma:{path}"
        self.sidecar: Sidecar | None = None
        self._opened = False
        try:
            client = opened(self._directory, collection)
            self._opened = True
            self.sidecar = Sidecar(self._directory / "m3" / _file_name(collection))
        except BaseException:
            self.close()
            raise
        self.collection = ChromaCollection(collection, lambda: client, str(self._directory), embedded=True)

    def close(self) -> None:
        """Gives everything back; in a forked child, nothing."""
        if os.getpid() != self._pid:
            return
        if self.sidecar is not None:
            self.sidecar.close()
        if self._opened:
            self._opened = False
            closed(self._directory, self._name)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


class _Server:
    """Where a collection on a server is, and what has to be closed."""

    def __init__(
        self,
        client: Callable[..., Any],
        collection: str,
        url: str,
        headers: dict[str, str] | None,
        sidecar: str | Path | None,
    ) -> None:
        self._pid = os.getpid()
        arguments = _server_arguments(url, headers)
        self._clients: list[Any] = []

        def connect() -> Any:
            self._clients.append(client(**arguments))
            return self._clients[-1]

        self.address = f"chroma:{url}"
        self.collection = ChromaCollection(collection, connect, url, embedded=False)
        writers = ChromaCollection(f"{collection}.m3-writers", self.collection.client, url, embedded=False)
        self.marks = Marks(writers)
        self.sidecar = None if sidecar is None else Sidecar(Path(sidecar) / _file_name(collection))

    def close(self) -> None:
        """Closes connections and files; in a forked child, nothing."""
        if os.getpid() != self._pid:
            return
        if self.sidecar is not None:
            self.sidecar.close()
        while self._clients:
            self._clients.pop().close()


def _file_name(collection: str) -> str:
    """Of a collection's sidecar; distinct where the system does not tell capitals."""
    return f"{collection}-{hashlib.blake2b(collection.encode(), digest_size=4).hexdigest()}.sqlite"


def _server_arguments(url: str, headers: dict[str, str] | None) -> dict[str, Any]:
    from chromadb.config import Settings

    parts = urlsplit(url)
    if parts.username or parts.password:
        raise InvalidInput("a url with a password in it would end up in messages: give it in headers=")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise InvalidInput(f"a server's url is like http://localhost:8000, without a path, not {url!r}")
    secure = parts.scheme == "https"
    return {
        "host": parts.hostname,
        "port": parts.port or (443 if secure else 8000),
        "ssl": secure,
        "headers": headers,
        "settings": Settings(anonymized_telemetry=False),
    }


def _load_chromadb() -> ModuleType:
    try:
        import chromadb
    except ImportError as error:
        raise MissingDependency("ChromaStore needs the package chromadb: pip install 'm3-retrieval[chroma]'") from error
    return chromadb
