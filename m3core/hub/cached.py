"""A model's place in the hub library's cache: blobs by hash, snapshots by commit that point to them, and refs.

Beside them lies a file of ours, which says where a snapshot came from, which files belong to it, and which of them have
been verified. See https://huggingface.co/docs/huggingface_hub/guides/manage-cache for the layout.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from m3core.hub.listing import HASH, Listing, RepoFile, has_weights, needed

_COMMIT = re.compile(r"[0-9a-f]{40}")
_OURS = "m3-retrieval.json"


class Repository:
    """What of one model is in the cache.

    Attributes:
        model: its hub id.
        folder: its place, which need not exist.
    """

    def __init__(self, model: str, cache_folder: str | Path | None) -> None:
        """Takes the hub library's own place where `cache_folder` is `None`."""
        from huggingface_hub import constants

        self._cache = Path(cache_folder or constants.HF_HUB_CACHE).expanduser()
        self.model = model
        self.folder = self._cache / f"models--{model.replace('/', '--')}"

    @property
    def environment(self) -> str:
        """What to put before a command that should use this cache."""
        from huggingface_hub import constants

        return "" if self._cache == Path(constants.HF_HUB_CACHE).expanduser() else f"HF_HUB_CACHE={self._cache} "

    @classmethod
    def all(cls, cache_folder: str | Path | None = None) -> "list[Repository]":
        """The models that this package has put into the cache."""
        cache = cls("", cache_folder)._cache
        found = sorted(path.parent.name for path in cache.glob(f"models--*/{_OURS}"))
        return [cls(name.removeprefix("models--").replace("--", "/"), cache_folder) for name in found]

    def commit(self, revision: str | None) -> str | None:
        """The commit that a revision stood for when it was fetched last."""
        revision = revision or "main"
        with suppress(OSError):
            return (self.folder / "refs" / revision).read_text("utf-8").strip()
        return revision if _COMMIT.fullmatch(revision) else None

    def is_pinned(self, revision: str | None, commit: str) -> bool:
        """Whether a revision is that commit, which never changes, and its files are known to be all."""
        return revision == commit and self.source(commit) is not None

    def holds(self, listing: Listing) -> bool:
        """Whether a snapshot has all of these files, as they should be."""
        snapshot = self.snapshot(listing.commit)
        return all(self._is_sound(snapshot / file.name, file) for file in listing.files)

    def snapshot(self, commit: str) -> Path:
        """The directory of a commit's files."""
        return self.folder / "snapshots" / commit

    def commits(self) -> list[str]:
        """The snapshots that there are."""
        return sorted(path.name for path in (self.folder / "snapshots").glob("*") if path.is_dir())

    def source(self, commit: str) -> str | None:
        """The endpoint that a snapshot came from, if this package fetched it."""
        recorded = self._recorded(commit)
        return recorded["from"] if recorded else None

    def partial(self, file: RepoFile) -> Path:
        """Where a file grows while it arrives."""
        return self.folder / "blobs" / f"{file.digest}.incomplete"

    def lock(self, file: RepoFile) -> AbstractContextManager[Any]:
        """The hub library's lock of a file, so that no two processes fetch it at once."""
        (self.folder / "blobs").mkdir(parents=True, exist_ok=True)
        return self._lock(file.digest)

    def has(self, file: RepoFile, commit: str) -> bool:
        """Whether a file is there, for this commit or for another one, and what it should be."""
        blob, pointer = self.folder / "blobs" / file.digest, self.snapshot(commit) / file.name
        return self._is_sound(blob, file) or self._is_sound(pointer, file)

    def keep(self, file: RepoFile) -> None:
        """Puts a file that has arrived, and whose hash was right, where everybody may use it."""
        blob = self.folder / "blobs" / file.digest
        self.partial(file).replace(blob)
        self._note_sound(blob, file.digest)

    def publish(self, listing: Listing, revision: str | None, source: str) -> None:
        """Makes the snapshot of files that are all there."""
        snapshot = self.snapshot(listing.commit)
        for file in listing.files:
            _point(snapshot / file.name, self.folder / "blobs" / file.digest)
        files = {file.name: [file.digest, file.size] for file in listing.files}
        with self._changing() as record:
            record["snapshots"].setdefault(listing.commit, {"made": {}}).update({"from": source, "files": files})
        revision = revision or "main"
        if revision != listing.commit and self.commit(revision) != listing.commit:
            self._write(self.folder / "refs" / revision, listing.commit)

    def add(self, commit: str, name: str) -> None:
        """Takes note of a file that was made from others, beside them."""
        path = self.snapshot(commit) / name
        digest = hash_of(path)
        with self._changing() as record:
            if commit in record["snapshots"]:
                record["snapshots"][commit]["made"][name] = [digest, path.stat().st_size]
        self._note_sound(path, digest)

    def missing(self, commit: str) -> list[str]:
        """What a snapshot lacks; nothing, if it is complete."""
        snapshot = self.snapshot(commit)
        if recorded := self._recorded(commit):
            return [name for name in recorded["files"] if not (snapshot / name).is_file()]
        names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if not path.is_dir()]
        wanted = set(needed(names))
        for index in snapshot.rglob("*.index.json"):
            with suppress(OSError, ValueError, AttributeError, TypeError):
                wanted |= set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        lacking = sorted(name for name in wanted if not (snapshot / name).is_file())  # a link to nothing, too
        if "config.json" not in {name.rpartition("/")[2] for name in names}:
            lacking.append("config.json")
        return lacking if has_weights(names) else [*lacking, "weights"]

    def damaged(self, commit: str, *, thorough: bool = False) -> list[RepoFile]:
        """The files of a snapshot that are not what their hashes say.

        Args:
            commit: of the snapshot.
            thorough: reads every file again, also those that were found right and have not been touched since.
        """
        snapshot = self.snapshot(commit)
        return [
            file
            for file in self._files(commit)
            if (snapshot / file.name).is_file() and not self._is_sound(snapshot / file.name, file, again=thorough)
        ]

    def remove(self, commit: str, file: RepoFile) -> None:
        """Removes a damaged file, so that it is fetched again, unless another process has just done so."""
        path = self.snapshot(commit) / file.name
        with self.lock(file):
            if not self._is_sound(path, file, again=True):
                path.resolve().unlink(missing_ok=True)  # the link stays, and says that there should be something

    def _files(self, commit: str) -> Iterator[RepoFile]:
        """The files of a snapshot; where we did not fetch it, their hashes are the names of what they point to."""
        if recorded := self._recorded(commit):
            for name, (digest, size) in {**recorded["files"], **recorded["made"]}.items():
                yield RepoFile(name, size, digest)
            return
        snapshot = self.snapshot(commit)
        names = sorted(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file())
        for name in needed(names):
            blob = (snapshot / name).resolve()
            if blob.parent.name == "blobs" and HASH.fullmatch(blob.name):
                yield RepoFile(name, blob.stat().st_size, blob.name)

    def _is_sound(self, path: Path, file: RepoFile, *, again: bool = False) -> bool:
        path = path.resolve()
        try:
            stat = path.stat()
            if stat.st_size != file.size:
                return False
            known = self._record()["verified"].get(_key(path, self.folder))
            if not again and known == [file.digest, stat.st_size, stat.st_mtime_ns]:
                return True
            if hash_of(path, file.digest) != file.digest:
                return False
        except FileNotFoundError:  # or removed by another process meanwhile
            return False
        self._note_sound(path, file.digest)
        return True

    def _note_sound(self, path: Path, digest: str) -> None:
        with suppress(OSError):  # where nothing can be written, files are read every time
            stat = path.stat()
            with self._changing() as record:
                record["verified"][_key(path, self.folder)] = [digest, stat.st_size, stat.st_mtime_ns]

    def _lock(self, name: str) -> AbstractContextManager[Any]:
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        path = self._cache / ".locks" / self.folder.name / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return WeakFileLock(path)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        with self._lock(_OURS):
            record = self._record()
            yield record
            self._write(self.folder / _OURS, json.dumps(record, indent=1))

    def _recorded(self, commit: str) -> dict[str, Any] | None:
        """What we know of a snapshot that we fetched."""
        recorded: dict[str, Any] | None = self._record()["snapshots"].get(commit)
        return recorded

    def _record(self) -> dict[str, Any]:
        try:
            record = json.loads((self.folder / _OURS).read_text("utf-8"))
            snapshots = {
                commit: {"from": str(known["from"]), "files": dict(known["files"]), "made": dict(known["made"])}
                for commit, known in record["snapshots"].items()
            }
            return {"snapshots": snapshots, "verified": dict(record["verified"])}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {"snapshots": {}, "verified": {}}

    def _write(self, path: Path, text: str) -> None:
        """Writes a small file at once; what a kill leaves of it is where no program looks for anything."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{path.name}.{uuid.uuid4().hex[:8]}"
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _point(pointer: Path, blob: Path) -> None:
    """Makes a file of a snapshot: a relative link; or the same file or a copy, where the system has no links."""
    if not blob.is_file() or (pointer.is_symlink() and pointer.resolve() == blob.resolve()):
        return  # without a blob the pointer is the file itself
    pointer.parent.mkdir(parents=True, exist_ok=True)
    temporary = pointer.with_name(f".{pointer.name}.{uuid.uuid4().hex[:8]}")
    try:
        try:
            temporary.symlink_to(os.path.relpath(blob, pointer.parent))
        except OSError:
            try:
                temporary.hardlink_to(blob)
            except OSError:
                shutil.copyfile(blob, temporary)
        temporary.replace(pointer)
    finally:
        temporary.unlink(missing_ok=True)


def hasher(file: RepoFile) -> Any:
    """A hash object for a file's digest: sha256, or git's sha1 of a header and the content."""
    if len(file.digest) != 40:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)


def hash_of(path: Path, like: str = "0" * 64) -> str:
    """The digest of a file, of the same kind as another digest; else sha256."""
    file = RepoFile(path.name, path.stat().st_size, like)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hasher(file)).hexdigest()


def _key(path: Path, folder: Path) -> str:
    with suppress(ValueError):
        return path.relative_to(folder.resolve()).as_posix()
    return str(path)
