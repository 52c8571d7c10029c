"""Calls to a Qdrant server: tried again where that helps, with errors that say what to do. Blocking and async alike."""

import asyncio
import inspect
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

from m3core import InvalidInput, MissingDependency, StoreError

_ATTEMPTS = 5
_LONGEST_PAUSE = 60.0
_PASSING = {408, 429, 500, 502, 503, 504}


class NotFound(StoreError):
    """There is no such collection."""


class Calls:
    """A client's methods by name."""

    def __init__(self, make_client: Callable[[], Any], url: str, *, blocking: bool) -> None:
        """Makes the client.

        Args:
            make_client: returns a `QdrantClient` or an `AsyncQdrantClient`.
            url: for messages.
            blocking: whether it is the former.
        """
        self._url = url
        self._pid = os.getpid()
        self._client: Any = make_client()
        _OPEN[id(self)] = self
        self._pause: Callable[[float], Any] = time.sleep if blocking else asyncio.sleep

    async def __call__(self, method: str, **arguments: Any) -> Any:
        """What the method returns. All that a store asks of a server can be asked twice without harm.

        Raises:
            NotFound: the collection does not exist.
            InvalidInput: the server did not understand.
            StoreError: the server cannot be reached, or failed, again and again.
        """
        attempt = 0
        while True:
            self.check()
            try:
                return await settled(getattr(self._client, method)(**arguments))
            except Exception as error:
                attempt += 1
                pause = _pause_after(error, attempt)
                if pause is None or attempt == _ATTEMPTS:
                    raise self._named(error, attempt) from error
                await self.pause(pause)

    async def pause(self, seconds: float) -> None:
        """Waits, as the client's calls do."""
        await settled(self._pause(seconds))

    def check(self) -> None:
        """Refuses to work when it cannot.

        Raises:
            StoreError: it is closed, or was inherited over a fork.
        """
        if os.getpid() != self._pid:
            raise StoreError("this store was made before the process was forked: make a new one in the child")
        if self._client is None:
            raise StoreError("the store is closed: open a new QdrantStore")

    async def close(self) -> None:
        """Closes the client. May be called twice; in a forked child it leaves all as it is."""
        if self._client is not None and os.getpid() == self._pid:
            client, self._client = self._client, None
            await settled(client.close())

    def _named(self, error: Exception, attempts: int) -> StoreError | InvalidInput:
        status, own = _status(error), _message(error)
        said = own if own is not None else getattr(error, "content", b"").decode(errors="replace")[:1000]
        if status == 404 and own is None:
            return StoreError(f"what answers at {self._url} is no Qdrant server ({said}): check the url")
        if status == 404:
            return NotFound(f"Qdrant at {self._url} says: {said}")
        if status in (401, 403):
            return StoreError(f"Qdrant at {self._url} refuses ({said}): give the right api_key")
        if status in _PASSING:
            return StoreError(f"Qdrant at {self._url} failed {attempts} times, at last with: {said}")
        if status is not None:
            return InvalidInput(f"Qdrant at {self._url} does not take this: {said}")
        if _is_lost(error):
            return StoreError(
                f"Qdrant at {self._url} could not be reached in {attempts} attempts ({said}): check the url, and that "
                "the server is running"
            )
        return StoreError(f"a call to Qdrant at {self._url} failed: {said}")


_OPEN: WeakValueDictionary[int, Calls] = WeakValueDictionary()  # not a set: it is listed whatever other threads add
_KEPT: list[list[Calls | None]] = []


def _keep() -> None:
    """For a forked child: if it lets go of a gRPC channel that it inherited, gRPC crashes, or waits for ever."""
    _KEPT.append([reference() for reference in _OPEN.valuerefs()])


if hasattr(os, "register_at_fork"):  # before it, as a child may begin with collecting garbage
    os.register_at_fork(before=_keep, after_in_parent=_KEPT.pop)


async def settled(value: Any) -> Any:
    """The result of a client's call: of an async client's after waiting for it, of a blocking one's as it is."""
    return await value if inspect.isawaitable(value) else value


def load_client() -> Any:
    """The module `qdrant_client`.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import qdrant_client
    except ImportError as error:
        raise MissingDependency(
            "a Qdrant server needs the package qdrant-client: pip install 'm3-retrieval[qdrant]'"
        ) from error
    return qdrant_client


def _pause_after(error: Exception, attempt: int) -> float | None:
    """Seconds until the next attempt: what the server asks for, or ever longer; `None` if it would be in vain."""
    if (asked := getattr(error, "retry_after_s", None)) is not None:
        return min(float(asked), _LONGEST_PAUSE)
    if _status(error) in _PASSING or _is_lost(error):
        return min(0.1 * 4.0 ** (attempt - 1), _LONGEST_PAUSE)
    return None


def _status(error: Exception) -> int | None:
    """The HTTP status that an error stands for."""
    if getattr(error, "retry_after_s", None) is not None:
        return 429
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status
    code = getattr(error, "code", None)
    by_name = {
        "NOT_FOUND": 404,
        "ALREADY_EXISTS": 409,
        "INVALID_ARGUMENT": 400,
        "OUT_OF_RANGE": 400,
        "UNAUTHENTICATED": 401,
        "PERMISSION_DENIED": 403,
        "RESOURCE_EXHAUSTED": 429,
        "DEADLINE_EXCEEDED": 504,
        "INTERNAL": 500,
        "UNIMPLEMENTED": 501,
        "UNAVAILABLE": 503,
    }
    return by_name.get(getattr(code(), "name", "")) if callable(code) else None


def _is_lost(error: Exception) -> bool:
    """Whether the connection broke, or never was."""
    from qdrant_client.http.exceptions import ResponseHandlingException

    return isinstance(error, ResponseHandlingException | OSError | EOFError)


def _message(error: Exception) -> str | None:
    """What the server, or the client, has to say; `None` if what answered is no Qdrant server."""
    content = getattr(error, "content", None)
    if not isinstance(content, bytes):
        details = getattr(error, "details", None)
        return str(details() if callable(details) else error)[:1000]
    with suppress(ValueError, LookupError, TypeError):
        return str(json.loads(content)["status"]["error"])[:1000]
    return None
