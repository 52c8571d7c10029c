"""One Chroma collection through Chroma's client, with errors that say what to do."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from m3core import InvalidInput, StoreError
from m3stores.engine import GENTLY, give_way
from m3stores.room import check_room

_PAGE = 2000
_ATTEMPTS = 5
_SHORT = {"upsert": 16, "update": 16, "delete": 200, "get": 100}  # records in 10 ms or so, to read in 2
_REST = {"upsert": 3.0, "update": 3.0, "delete": 6.0}  # for the event loop, by the time that it stood still


class Removed(StoreError):
    """The collection is not there, or no longer."""


class ChromaCollection:
    """A collection's own methods by name, and the collection itself. It may not exist yet. May be shared by threads."""

    def __init__(self, name: str, connect: Callable[[], Any], where: str, *, embedded: bool) -> None:
        """Connects at the first call.

        Args:
            name: of the collection.
            connect: returns a client.
            where: the directory or url, for messages.
            embedded: whether Chroma runs in this process.
        """
        self.name = name
        self._connect = connect
        self._where = where
        self._embedded = embedded
        self._pid = os.getpid()
        self._client: Any = None
        self._collection: Any = None
        self._most: int | None = None
        self._closed = False

    def check(self) -> None:
        """Refuses to work when it cannot.

        Raises:
            StoreError: it is closed, or was inherited over a fork.
        """
        if os.getpid() != self._pid:
            raise StoreError("this store was made before the process was forked: make a new one in the child")
        if self._closed:
            raise StoreError(f"collection {self.name!r} is closed: open a new ChromaStore")

    def check_room(self, writes: int) -> None:
        """Refuses to write so many bytes where this process would keep them on a full disk. See `check_room`."""
        if self._embedded:
            check_room(Path(self._where), writes, self.name)

    def metadata(self) -> dict[str, Any] | None:
        """The collection's metadata, read anew; `None` if there is no collection."""
        from chromadb.errors import NotFoundError

        def found() -> Any:
            try:
                return self.client().get_collection(self.name, embedding_function=None)
            except NotFoundError:
                return None

        self._collection = collection = self.said(found)
        return None if collection is None else dict(collection.metadata or {})

    def space(self) -> str:
        """What distances are: `"ip"`, `"cosine"` or `"l2"`."""
        configuration = self._there().configuration_json
        return str((configuration.get("hnsw") or configuration.get("spann") or {}).get("space", "l2"))

    def create(self, metadata: dict[str, Any] | None) -> None:
        """Makes the collection if it does not exist."""
        self._collection = self.said(
            self.client().get_or_create_collection,
            name=self.name,
            metadata=metadata,
            configuration={"hnsw": {"space": "ip", "ef_search": 200}},
            embedding_function=None,
        )

    def drop(self) -> None:
        """Removes the collection, if there is one."""
        if self.metadata() is not None:
            self._collection = None
            self.said(self.client().delete_collection, name=self.name)

    def call(self, method: str, **arguments: Any) -> Any:
        """What a method of the collection returns.

        Raises:
            InvalidInput: Chroma does not take the arguments.
            Removed: the collection is not there, or another one now.
            StoreError: it failed, or cannot be reached.
        """
        try:
            return self.said(getattr(self._there(), method), **arguments)
        except Removed:
            self._collection = None
            raise

    def change(self, method: str, **arguments: Any) -> None:
        """Calls a method that writes, with one value of each argument for each record. Raises what `call` raises.

        In this process Chroma lets no other thread run meanwhile; where an event loop waits, it gets its time after it.
        """
        most = self.at_a_time(method)
        for start in range(0, len(arguments["ids"]), most):
            begun = time.perf_counter()
            self.call(method, **{name: values[start : start + most] for name, values in arguments.items()})
            if self._embedded and GENTLY.get():
                time.sleep(_REST[method] * (time.perf_counter() - begun))

    def at_a_time(self, method: str = "get") -> int:
        """The most records for one call of a method: that Chroma takes, and that do not take long if they must not."""
        if self._most is None:
            self._most = min(int(self.said(self.client().get_max_batch_size)), _PAGE)
        return min(self._most, _SHORT.get(method, _PAGE)) if self._embedded and GENTLY.get() else self._most

    def pages(self, **arguments: Any) -> Iterator[Any]:
        """What `get` returns, some records at a time."""
        offset = 0
        while True:
            page = self.call("get", limit=_PAGE, offset=offset, **arguments)
            if page["ids"]:
                yield page
            if len(page["ids"]) < _PAGE:
                return
            offset += _PAGE

    def some(self, ids: Sequence[str], include: list[str]) -> Iterator[Any]:
        """What `get` returns for these ids, some at a time."""
        most = self.at_a_time()
        for start in range(0, len(ids), most):
            yield self.call("get", ids=list(ids[start : start + most]), include=include)
            give_way()

    def metadatas(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The metadata of these records, as far as they are there."""
        found: dict[str, dict[str, Any]] = {}
        for page in self.some(ids, ["metadatas"]):
            found.update((i, held or {}) for i, held in zip(page["ids"], page["metadatas"], strict=True))
        return found

    def close(self) -> None:
        """Forgets the client. May be called twice."""
        self._closed = True
        self._client = self._collection = None

    def client(self) -> Any:
        """Chroma's client."""
        self.check()
        if self._client is None:
            self._client = self.said(self._connect)
        return self._client

    def said(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """What a call returns; tried again where that helps."""
        attempt = 0
        while True:
            try:
                return function(**arguments)
            except Exception as error:
                attempt += 1
                if attempt == _ATTEMPTS or not _may_pass(error):
                    raise self._named(error) from error
            time.sleep(0.05 * 2.0**attempt)

    def _there(self) -> Any:
        self.check()
        collection = self._collection
        if collection is None and self.metadata() is not None:
            collection = self._collection
        if collection is None:
            raise Removed(f"collection {self.name!r} in {self._where} has been removed: call again to make it anew")
        return collection

    def _named(self, error: Exception) -> Exception:
        from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError

        if isinstance(error, StoreError | InvalidInput):
            return error
        what = f"collection {self.name!r} in {self._where}"
        if isinstance(error, NotFoundError):
            return Removed(f"{what} has been removed, or made anew, by somebody else: call again ({error})")
        if isinstance(error, InvalidArgumentError) or (
            isinstance(error, ChromaError) and "Invalid" in type(error).__name__
        ):
            return InvalidInput(f"Chroma does not take this for {what}: {error}")
        if "connect" in str(error).lower() or "Connect" in type(error).__name__:
            return StoreError(f"Chroma at {self._where} cannot be reached ({error}): check that the server is running")
        return StoreError(f"Chroma failed on {what}: {type(error).__name__}: {error}")


def _may_pass(error: Exception) -> bool:
    """Whether the same call, which can be made twice without harm, may do better later.

    Chroma fails on records that others delete while it reads them.
    """
    from chromadb.errors import InternalError
    from httpx import TransportError

    return isinstance(error, InternalError | TransportError)
