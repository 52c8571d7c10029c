"""One file over one connection: what has arrived stays, and what has arrived wrongly is thrown away."""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from m3core.errors import DownloadFailed
from m3core.hub.answers import Failed, timeouts
from m3core.hub.cached import hasher
from m3core.hub.listing import HASH, RepoFile

_CHUNK = 1 << 20
_REDIRECTS = 10
_OWN = re.compile("/resolve(-cache)?/")
_SLOW_BYTES, _SLOW_SECONDS = 1 << 15, 30.0  # less than this in that time is no download

Arrived = Callable[[int], object]
"""Is told how many of a file's bytes are there."""


def receive(url: str, headers: dict[str, str], partial: Path, file: RepoFile, arrived: Arrived) -> None:
    """Completes `partial` from a URL, and checks that its size and hash are the file's.

    Args:
        url: of the whole file.
        headers: of the request.
        partial: holds what has arrived before, if anything. Keeps what arrives, also when the connection breaks.
        file: what it should become.
        arrived: is told how many of the file's bytes are there.

    Raises:
        DownloadFailed: the disk is full or cannot be written.
        Failed: what came is not this file; `partial` is gone.
        Exception: the connection failed, in one of the HTTP client's ways.
    """
    with _disk_named(partial):
        out = partial.open("a+b", buffering=0)  # so that a full disk keeps what it has room for
    with out:
        have = _Content(out, file, partial, arrived)
        if have.size < file.size:
            _append(url, headers, have)
        with _disk_named(partial):
            os.fsync(out.fileno())
    if have.size == file.size and have.hash.hexdigest() == file.digest:
        return
    if have.size < file.size:
        raise Failed(f"broke off after {have.size} of {file.size} bytes of {file.name}")
    partial.unlink()
    arrived(0)
    raise Failed(f"sent other bytes of {file.name} than it announced")


class _Content:
    """What of a file has arrived, and its hash."""

    def __init__(self, out: FileIO, file: RepoFile, partial: Path, arrived: Arrived) -> None:
        self.file = file
        self._out, self._partial, self._arrived = out, partial, arrived
        self.size, self.hash = 0, hasher(file)
        out.seek(0)
        while chunk := out.read(_CHUNK):
            self.hash.update(chunk)
            self.size += len(chunk)
        if self.size > file.size:
            self.restart()
        arrived(self.size)

    def add(self, chunk: bytes) -> None:
        """Keeps what has arrived."""
        with _disk_named(self._partial):
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._out.write(rest) :]
        self.hash.update(chunk)
        self.size += len(chunk)
        self._arrived(self.size)

    def restart(self) -> None:
        """Forgets what has arrived."""
        self._out.truncate(0)
        self.size, self.hash = 0, hasher(self.file)
        self._arrived(0)


def _append(url: str, headers: dict[str, str], have: _Content) -> None:
    """Asks for what is still to come."""
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    file = have.file
    asked = {**headers, "Accept-Encoding": "identity"}
    if have.size:
        asked["Range"] = f"bytes={have.size}-"
    with _answered(url, asked, file) as response:
        if response.status_code == 416:
            have.restart()
            raise Failed("cannot go on in the middle of the file")
        hf_raise_for_status(response)
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        if response.status_code == 206:
            said = response.headers.get("Content-Range", "")
            if encoded or said.replace(" ", "").lower() != f"bytes{have.size}-{file.size - 1}/{file.size}":
                have.restart()
                raise Failed(f"was asked for {file.name} from another byte on than it sent ({said or 'not said'})")
        elif have.size:
            have.restart()  # it ignores ranges, and sends everything again
        length = response.headers.get("Content-Length")
        if length is not None and not encoded and int(length) != file.size - have.size:
            raise Failed(f"sends {length} bytes as {file.name} where {file.size - have.size} are due")
        _take(response.iter_bytes(_CHUNK) if encoded else response.iter_raw(), have)


def _take(chunks: Iterator[bytes], have: _Content) -> None:
    """Keeps what comes, as long as it comes at some speed and is not too much."""
    begun, counted = time.monotonic(), have.size
    for chunk in chunks:
        have.add(chunk)
        if have.size > have.file.size:
            return
        if time.monotonic() - begun > _SLOW_SECONDS:
            if have.size - counted < _SLOW_BYTES:
                raise Failed(f"sends less than {_SLOW_BYTES / _SLOW_SECONDS / 1000:.0f} kB/s")
            begun, counted = time.monotonic(), have.size


@contextmanager
def _answered(url: str, headers: dict[str, str], file: RepoFile) -> Iterator[Any]:
    """The answer at the end of all redirects. Where these leave the hub's own files, the token stays behind."""
    from huggingface_hub import get_session

    for _ in range(_REDIRECTS):
        with get_session().stream("GET", url, headers=headers, timeout=timeouts(), follow_redirects=False) as response:
            _check_announced(response, file)
            if not response.has_redirect_location:
                yield response
                return
            target = response.url.join(response.headers["Location"])
        same = (target.scheme, target.netloc) == (response.url.scheme, response.url.netloc)
        if not same or not _OWN.search(target.path):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        url = str(target)
    raise Failed("redirects in a loop")


def _check_announced(response: Any, file: RepoFile) -> None:
    """Spares a download of gigabytes that would end with the wrong hash."""
    said = response.headers.get("X-Linked-ETag") or response.headers.get("ETag") or ""
    digest = said.removeprefix("W/").strip('"')
    if HASH.fullmatch(digest) and len(digest) == len(file.digest) and digest != file.digest:
        raise Failed(f"has another {file.name} than the one wanted", for_good=True)


@contextmanager
def _disk_named(partial: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DownloadFailed(
                f"the disk is full: {partial.parent} has no room for more. Free some, or choose another place by "
                "cache_folder= or HF_HUB_CACHE; what has arrived is kept"
            ) from error
        raise DownloadFailed(
            f"{partial} cannot be written ({error.strerror}); choose another place by cache_folder= or HF_HUB_CACHE"
        ) from error
