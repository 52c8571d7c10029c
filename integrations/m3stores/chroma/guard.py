"""One owner for each directory of Chroma collections: two processes that write to one silently lose records."""

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3core import CollectionLocked, StoreError
from m3stores.locking import locked

if TYPE_CHECKING:
    from filelock import BaseFileLock


@dataclass
class _Owned:
    """A directory that this process has open."""

    lock: "BaseFileLock"
    client: Any
    collections: set[str] = field(default_factory=set)
    pid: int = field(default_factory=os.getpid)


_lock = threading.Lock()
_owned: dict[Path, _Owned] = {}


def opened(path: Path, collection: str) -> Any:
    """Chroma's client for a directory, which all stores of this process share, each for a collection of its own.

    Raises:
        CollectionLocked: another process has the directory, or another store of this process the collection.
        InvalidInput: there can be no such directory.
    """
    import chromadb
    from chromadb.config import Settings

    directory = Path(os.path.abspath(path))
    with _lock:
        owned = _owned.get(directory)
        if owned is None:
            lock = locked(directory / ".m3.lock", f"the directory {directory} of Chroma collections")
            try:
                settings = Settings(anonymized_telemetry=False)
                owned = _owned[directory] = _Owned(lock, chromadb.PersistentClient(str(directory), settings))
            except BaseException as error:
                lock.release()
                if isinstance(error, Exception):
                    raise StoreError(f"Chroma cannot open the directory {directory}: {error}") from error
                raise
        if owned.pid != os.getpid():
            raise CollectionLocked(
                f"the directory {directory} was opened before this process was forked: end the other first, and start "
                "processes with the 'spawn' method"
            )
        if collection in owned.collections:
            raise CollectionLocked(
                f"collection {collection!r} in {directory} is open already in this process: share it"
            )
        owned.collections.add(collection)
        return owned.client


def closed(path: Path, collection: str) -> None:
    """Gives a collection back. With its last one, the directory is closed."""
    directory = Path(os.path.abspath(path))
    with _lock:
        owned = _owned.get(directory)
        if owned is None or owned.pid != os.getpid():
            return
        owned.collections.discard(collection)
        if not owned.collections:
            del _owned[directory]
            try:
                owned.client.close()
            finally:
                owned.lock.release()
