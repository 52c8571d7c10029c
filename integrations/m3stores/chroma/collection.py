"""One Chroma collection through either of Chroma's clients, blocking or async, with errors that say what to do."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from m3core import InvalidInput, StoreError
from m3stores.engine import settled

_PAGE = 2000
_ATTEMPTS = 5


class Removed(StoreError):
    """The collection is not there, or no longer."""


class ChromaCollection:
    """A collection's own methods by name, and the collection itself. It may not exist yet."""

    def __init__(self, name: str, connect: Callable[[], Any], where: str, *, blocking: bool) -> None:
        """Connects at the first call.

        Args:
            name: of the collection.
            connect: returns a client, or an awaitable of one.
            where: the directory or url, for messages.
            blocking: whether the client is.
        """
        self._name = name
        self._connect = connect
        self._where = where
        self._pause: Callable[[float], Any] = time.sleep if blocking else asyncio.sleep
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
            raise StoreError(f"collection {self._name!r} is closed: open a new ChromaStore")

    async def exists(self) -> bool:
        """Whether there is such a collection now."""
        self._collection = None
        return await self._found() is not None

    async def metadata(self) -> dict[str, Any]:
        """The collection's metadata, read anew."""
        self._collection = None
        found = await self._found()
        return dict(found.metadata or {}) if found is not None else {}

    async def space(self) -> str:
        """What distances are: `"ip"`, `"cosine"` or `"l2"`."""
        configuration = (await self._there()).configuration_json
        return str((configuration.get("hnsw") or configuration.get("spann") or {}).get("space", "l2"))

    async def create(self, metadata: dict[str, Any]) -> None:
        """Makes the collection if it does not exist."""
        client = await self._connected()
        hnsw = {"space": "ip", "ef_search": 200}
        self._collection = await self._said(
            client.get_or_create_collection,
            name=self._name,
            metadata=metadata,
            configuration={"hnsw": hnsw},
            embedding_function=None,
        )

    async def drop(self) -> None:
        """Removes the collection."""
        client = await self._connected()
        self._collection = None
        await self._said(client.delete_collection, name=self._name)

    async def call(self, method: str, **arguments: Any) -> Any:
        """What a method of the collection returns.

        Raises:
            InvalidInput: Chroma does not take the arguments.
            StoreError: it failed, or cannot be reached.
        """
        try:
            return await self._said(getattr(await self._there(), method), **arguments)
        except Removed:  # and made anew, perhaps
            self._collection = None
            return await self._said(getattr(await self._there(), method), **arguments)

    async def at_a_time(self) -> int:
        """The most records that Chroma takes in one call."""
        if self._most is None:
            client = await self._connected()
            self._most = min(int(await self._said(client.get_max_batch_size)), _PAGE)
        return self._most

    async def pages(self, **arguments: Any) -> AsyncIterator[Any]:
        """What `get` returns, some records at a time."""
        offset = 0
        while True:
            page = await self.call("get", limit=_PAGE, offset=offset, **arguments)
            if page["ids"]:
                yield page
            if len(page["ids"]) < _PAGE:
                return
            offset += _PAGE

    async def some(self, ids: Sequence[str], include: list[str]) -> AsyncIterator[Any]:
        """What `get` returns for these ids, some at a time."""
        most = await self.at_a_time()
        for start in range(0, len(ids), most):
            yield await self.call("get", ids=list(ids[start : start + most]), include=include)

    def close(self) -> None:
        """Forgets the client. May be called twice."""
        self._closed = True
        self._client = self._collection = None

    async def _there(self) -> Any:
        found = await self._found()
        if found is None:
            raise Removed(f"collection {self._name!r} in {self._where} has been removed")
        return found

    async def _found(self) -> Any:
        from chromadb.errors import NotFoundError

        if self._collection is None:
            client = await self._connected()
            try:
                self._collection = await settled(client.get_collection(self._name, embedding_function=None))
            except NotFoundError:
                return None
            except Exception as error:
                raise self._named(error) from error
        return self._collection

    async def _connected(self) -> Any:
        self.check()
        if self._client is None:
            self._client = await self._said(self._connect)
        return self._client

    async def _said(self, function: Callable[..., Any | Awaitable[Any]], **arguments: Any) -> Any:
        attempt = 0
        while True:
            try:
                return await settled(function(**arguments))
            except Exception as error:
                attempt += 1
                if attempt == _ATTEMPTS or not _may_pass(error):
                    raise self._named(error) from error
            await settled(self._pause(0.05 * 2.0**attempt))

    def _named(self, error: Exception) -> Exception:
        from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError

        if isinstance(error, StoreError):
            return error
        what = f"collection {self._name!r} in {self._where}"
        if isinstance(error, NotFoundError):
            return Removed(f"{what} has been removed: {error}")
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
