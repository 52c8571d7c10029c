"""One file over one connection after the other: what has arrived stays, what has arrived wrongly is thrown away."""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from m3core.errors import DownloadFailed
from m3core.hub.answers import Answer, Failed, timeouts
from m3core.hub.cached import hasher
from m3core.hub.listing import HASH, RepoFile

_CHUNK = 1 << 20
_REDIRECTS = 10
_OWN = re.compile("/resolve(-cache)?/")  # a file at the hub itself, not in a content network
_SLOW_BYTES, _SLOW_SECONDS = 1 << 15, 30.0  # less than this in that time is no download


class NoRange(Failed):
    """An endpoint cannot go on in the middle of a file. It may have all of it."""


class Partial:
    """A file that grows while it arrives, and the hash of what is there. A context manager, while it is open.

    Attributes:
        file: what it should become.
        size: how many bytes are there.
    """

    def __init__(self, path: Path, file: RepoFile, arrived: Callable[[int], object]) -> None:
        """Goes on with what is there.

        Args:
            path: of the growing file; it is kept whatever happens.
            file: what it should become.
            arrived: is told how many bytes are there, whenever that changes.

        Raises:
            DownloadFailed: it cannot be read or written.
        """
        self.file = file
        self._path, self._arrived = path, arrived
        with self._disk_named():
            self._stream = path.open("a+b", buffering=0)  # so that a full disk keeps what it has room for
            self._stream.seek(0)
            self.size, self._hash = 0, hasher(file)
            while chunk := self._stream.read(_CHUNK):
                self._hash.update(chunk)
                self.size += len(chunk)
        if self.size > file.size:
            self.restart()
        arrived(self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()

    def add(self, chunk: bytes) -> None:
        """Keeps what has arrived."""
        with self._disk_named():
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._stream.write(rest) :]
        self._hash.update(chunk)
        self.size += len(chunk)
        self._arrived(self.size)

    def restart(self) -> None:
        """Forgets what has arrived."""
        with self._disk_named():
            self._stream.truncate(0)
        self.size, self._hash = 0, hasher(self.file)
        self._arrived(0)

    def check_complete(self) -> None:
        """Raises `Failed` unless it is the file. Wrong bytes are thrown away."""
        if self.size < self.file.size:
            raise Failed(f"broke off after {self.size} of {self.file.size} bytes of {self.file.name}")
        with self._disk_named():
            os.fsync(self._stream.fileno())
            there = os.fstat(self._stream.fileno()).st_size  # more, where locks do not work and two processes write
        if self._hash.hexdigest() != self.file.digest or there != self.file.size:
            self.restart()
            raise Failed(f"sent other bytes of {self.file.name} than it announced")

    @contextmanager
    def _disk_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            elsewhere = "choose another place by cache_folder= or HF_HUB_CACHE"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise DownloadFailed(
                    f"the disk is full: {self._path.parent} has no room for more. Free some, or {elsewhere}; what has "
                    "arrived is kept"
                ) from error
            raise DownloadFailed(f"{self._path} cannot be written ({error.strerror}); {elsewhere}") from error


def receive(url: str, headers: dict[str, str], partial: Partial, *, ranges: bool) -> None:
    """Completes a file from a URL, and checks that it is the right one.

    Args:
        url: of the whole file.
        headers: of the request.
        partial: keeps what arrives, also when the connection breaks.
        ranges: whether to ask for the missing part only.

    Raises:
        DownloadFailed: the disk is full or cannot be written.
        NoRange: it should be asked for the whole file.
        Failed: what comes is not this file.
        Exception: the connection failed, in one of the HTTP client's ways.
    """
    file = partial.file
    if partial.size < file.size or not file.size:
        asked = {**headers, "Accept-Encoding": "identity"}
        if partial.size and ranges:
            asked["Range"] = f"bytes={partial.size}-"
        with _answered(url, asked, file) as response:
            encoded = _check_answer(response, partial)
            if response.status_code == 200 and partial.size:
                partial.restart()  # everything comes again
            _take(response.iter_bytes(_CHUNK) if encoded else response.iter_raw(), partial)
    partial.check_complete()


def _check_answer(response: Any, partial: Partial) -> bool:
    """Refuses what cannot be the file, before anything is thrown away for it. Returns whether it is compressed."""
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    file = partial.file
    if response.status_code == 416:
        raise NoRange("cannot go on in the middle of the file")
    hf_raise_for_status(response)
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    due = file.size
    if response.status_code == 206:
        said = response.headers.get("Content-Range", "")
        if encoded or said.replace(" ", "").lower() != f"bytes{partial.size}-{file.size - 1}/{file.size}":
            raise NoRange(f"was asked for {file.name} from another byte on than it sent ({said or 'not said'})")
        due -= partial.size
    length = response.headers.get("Content-Length")
    if length is not None and not encoded and length != str(due):
        raise Failed(f"sends {length} bytes as {file.name} where {due} are due")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise Failed(f"sends a page as {file.name}, such as a login")
    return bool(encoded)


def _take(chunks: Iterator[bytes], partial: Partial) -> None:
    """Keeps what comes, as long as it comes at some speed and is not too much."""
    begun, counted = time.monotonic(), partial.size
    for chunk in chunks:
        partial.add(chunk)
        if partial.size > partial.file.size:
            return
        if time.monotonic() - begun > _SLOW_SECONDS:
            if partial.size - counted < _SLOW_BYTES:
                raise Failed(f"sends less than {_SLOW_BYTES / _SLOW_SECONDS / 1000:.0f} kB/s")
            begun, counted = time.monotonic(), partial.size


@contextmanager
def _answered(url: str, headers: dict[str, str], file: RepoFile) -> Iterator[Any]:
    """The answer at the end of all redirects. Where these leave the hub's own files, the token stays behind."""
    from huggingface_hub import get_session

    elsewhere = None
    for _ in range(_REDIRECTS):
        try:
            with get_session().stream(
                "GET", url, headers=headers, timeout=timeouts(), follow_redirects=False
            ) as response:
                _check_announced(response, file)
                if not response.has_redirect_location:
                    yield response
                    return
                target, here = response.url.join(response.headers["Location"]), response.url
        except (DownloadFailed, Failed):
            raise
        except Exception as error:  # in one of the many ways of clients and networks
            if elsewhere is None:
                raise
            answer = Answer.of(error)
            raise Failed(f"has its files at {elsewhere}, and there: {answer.text}", wait=answer.wait) from error
        if (target.scheme, target.netloc) != (here.scheme, here.netloc):
            elsewhere = target.host
        if elsewhere is not None or not _OWN.search(target.path):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        url = str(target)
    raise Failed("redirects in a loop")


def _check_announced(response: Any, file: RepoFile) -> None:
    """Spares a download of gigabytes that would end with the wrong hash."""
    said = response.headers.get("X-Linked-ETag") or ""
    if not said and _OWN.search(response.url.path):
        said = response.headers.get("ETag") or ""
    digest = said.removeprefix("W/").strip('"')
    if HASH.fullmatch(digest) and len(digest) == len(file.digest) and digest != file.digest:
        raise Failed(f"has another {file.name} than the one wanted", for_good=True)
