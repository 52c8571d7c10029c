"""The guard of an embedded shard: one owner at a time, on disk for good, and nothing after a fork.

What qdrant-edge does not do by itself: a second process that merely tries to open a shard damages the first one's, a
forked child that queries hangs, and an engine's failure is no Exception.
"""

import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from m3core import CollectionLocked, InvalidInput, M3Error, MissingDependency, StoreError
from m3stores.collection import Schema
from m3stores.locking import locked
from m3stores.qdrant.optimizing import optimize_apart
from m3stores.room import check_room

if TYPE_CHECKING:
    import qdrant_edge
    from filelock import BaseFileLock

_NAME, _NAME_BYTES = re.compile(r"[^\W_][\w.-]*"), 200
_FORMAT = "m3-collection/1"


def load_edge() -> ModuleType:
    """The module `qdrant_edge`.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import qdrant_edge
    except ImportError as error:
        raise MissingDependency(
            "QdrantStore needs the package qdrant-edge-py: pip install 'm3-retrieval[qdrant]'"
        ) from error
    return qdrant_edge


class GuardedShard:
    """A shard in a directory that this object alone has open.

    Layout: `<path>/<collection>/` with the shard and `m3.json`, which says what it holds; two lock files beside
    it. A collection appears under its name when it is complete.
    """

    def __init__(self, edge: ModuleType, collection: str, path: str | Path | None) -> None:
        """Takes the lock, and opens the shard if it exists.

        Args:
            edge: the module `qdrant_edge`.
            collection: a name for it.
            path: the directory of collections; `None` makes a temporary one, which `close` removes.

        Raises:
            InvalidInput: the name or the path cannot be used.
            CollectionLocked: it is open elsewhere.
            StoreError: what is there cannot be opened.
        """
        if not isinstance(collection, str) or not _NAME.fullmatch(collection) or len(collection.encode()) > _NAME_BYTES:
            raise InvalidInput(
                "a collection's name is letters, digits, '_', '-' and '.', begins with a letter or digit and takes up "
                f"to {_NAME_BYTES} bytes; {collection!r} does not fit"
            )
        if path is not None and not str(path):
            raise InvalidInput("the path is empty; None means a temporary directory")
        self._edge: Any = edge
        self._pid = os.getpid()
        self._thread_lock = threading.RLock()
        self._temporary = Path(tempfile.mkdtemp(prefix="m3-store-")) if path is None else None
        self.name = collection
        home = self._temporary or Path(os.path.abspath(path or "."))  # the process may change its directory later
        self._directory = home / collection
        self._shard: qdrant_edge.EdgeShard | None = None
        self._schema: Schema | None = None
        self._lock: BaseFileLock | None = locked(home / f".{collection}.lock", f"collection {collection!r} in {home}")
        self._shard_lock: BaseFileLock | None = None  # which a child that optimizes has meanwhile
        try:
            self._lock_shard()
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def schema(self) -> Schema | None:
        """What the shard holds; `None` while there is none.

        Raises:
            StoreError: as `use` does.
        """
        with self._owned():
            return self._schema

    def create(
        self, config: "qdrant_edge.EdgeConfig", schema: Schema, updates: Sequence["qdrant_edge.UpdateOperation"]
    ) -> None:
        """Makes the shard, unless there is one.

        Args:
            config: of the shard.
            schema: what it is to hold.
            updates: to begin with.
        """
        with self._owned(), self._failures_named():
            if self._schema is None:
                check_room(self._directory.parent, 0, self.name)
                new = self._directory.with_name(f".{self.name}.new")
                shutil.rmtree(new, ignore_errors=True)  # from a process that died in the middle of this
                new.mkdir(parents=True)
                shard = self._edge.EdgeShard.create(str(new / "shard"), config)
                for update in updates:
                    shard.update(update)
                shard.close()
                _write_json(new / "m3.json", {"format": _FORMAT, **schema.as_json()})
                new.rename(self._directory)
                _sync(self._directory.parent)
                self._open()

    def become(self, schema: Schema, config: "qdrant_edge.EdgeConfig | None" = None) -> None:
        """Writes down another schema.

        Args:
            schema: what the shard holds from now on.
            config: what the shard is from now on, if that has changed.
        """
        with self._owned(), self._failures_named():
            if config is not None and self._shard is not None:
                self._shard.close()
                self._shard = self._edge.EdgeShard.load(str(self._directory / "shard"), config)
            new = self._directory / "m3.json.new"
            _write_json(new, {"format": _FORMAT, **schema.as_json()})
            new.replace(self._directory / "m3.json")
            _sync(self._directory)
            self._schema = schema

    def drop(self) -> None:
        """Removes the shard; the lock stays."""
        with self._owned(), self._failures_named():
            if self._shard is not None:
                self._shard.close()
                self._shard = None
            old = self._directory.with_name(f".{self.name}.dropped")
            shutil.rmtree(old, ignore_errors=True)
            self._directory.rename(old)  # at once, so that no half of it is ever found
            self._schema = None
            shutil.rmtree(old, ignore_errors=True)

    def optimize(self) -> None:
        """Lets a child process build the indexes: the engine would hold up every thread of this one meanwhile.

        Raises:
            StoreError: it failed; the shard is open again, as it was.
        """
        with self._owned(), self._failures_named():
            if self._shard is None:
                return
            assert self._shard_lock is not None
            shard, self._shard = self._shard, None
            shard.close()
            self._shard_lock.release()
            try:
                optimize_apart(self._directory / "shard", self._shard_lock_file)
            finally:
                self._lock_shard()
                self._open()

    @contextmanager
    def use(self, writes: int | None = None) -> Iterator["qdrant_edge.EdgeShard"]:
        """The shard, for calls of one thread at a time.

        Args:
            writes: how many bytes the calls are given to keep, if any.

        Raises:
            StoreError: it is closed, it was inherited over a fork, the disk is full, or the engine failed.
        """
        with self._owned(), self._failures_named():
            assert self._shard is not None, "the store asks for a shard only when there is one"
            if writes is not None:
                check_room(self._directory.parent, writes, self.name)
            yield self._shard

    def close(self) -> None:
        """Closes the shard and gives up the directory. In a forked child it leaves all as it is."""
        if os.getpid() != self._pid:
            return
        with self._thread_lock:
            if self._lock is None:
                return
            locks = [self._shard_lock, self._lock]
            self._lock = self._shard_lock = None
            shard, self._shard = self._shard, None
            try:
                if shard is not None:
                    with self._failures_named():
                        shard.close()
            finally:
                for lock in locks:
                    if lock is not None:
                        lock.release()
                if self._temporary is not None:
                    shutil.rmtree(self._temporary, ignore_errors=True)

    @property
    def _shard_lock_file(self) -> Path:
        return self._directory.with_name(f".{self.name}.shard.lock")

    def _lock_shard(self) -> None:
        try:
            self._shard_lock = locked(self._shard_lock_file, "")
        except CollectionLocked as error:
            raise CollectionLocked(
                f"collection {self.name!r} in {self._directory} is being optimized for a process that has died since: "
                "wait until that has ended"
            ) from error

    def _open(self) -> None:
        if not self._directory.exists():
            return
        try:
            about = json.loads((self._directory / "m3.json").read_bytes())
            if about["format"] != _FORMAT:
                raise ValueError(f"its format is {about['format']!r}")
            schema = Schema.from_json(about)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise StoreError(
                f"{self._directory} is not a collection that this version of QdrantStore made ({error}): "
                "choose another path or collection"
            ) from error
        with self._failures_named():
            self._shard = self._edge.EdgeShard.load(str(self._directory / "shard"))
        self._schema = schema

    @contextmanager
    def _owned(self) -> Iterator[None]:
        if os.getpid() != self._pid:  # before the lock, which another thread of the parent may have held
            raise StoreError(
                f"collection {self.name!r} was opened before this process was forked, and cannot be used in it: open "
                "it in one process only, and start others with the 'spawn' method"
            )
        with self._thread_lock:
            if self._lock is None:
                raise StoreError(f"collection {self.name!r} is closed: open a new QdrantStore")
            yield

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if isinstance(error, M3Error):
                raise
            if "WouldBlock" in str(error):  # the engine's own lock, which a forked child inherits
                raise CollectionLocked(
                    f"collection {self.name!r} in {self._directory} is still held by a process that was forked while "
                    "it was open: end that process first, and start others with the 'spawn' method"
                ) from error
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":  # which is no Exception
                raise StoreError(
                    f"the engine of collection {self.name!r} in {self._directory} failed: {error}"
                ) from error
            raise


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Makes a renaming in this directory last, where the system lets one do so."""
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
