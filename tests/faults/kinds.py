"""The faults: each turns the true answer to a request into the steps that go out instead."""

import gzip
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate
from fnmatch import fnmatch
from itertools import repeat
from time import time

from faults.exchange import Answer, Kind, Request, Step


class Fault:
    """What goes wrong with one answer."""

    def steps(self, answer: Answer, request: Request) -> Iterable[Step]:
        """What goes out: a head, and bytes and seconds of silence. A `ConnectionResetError` resets the connection."""
        raise NotImplementedError


Rule = Callable[[Request], Fault | None]


def on(fault: Fault, name: str = "*", *, kind: Kind = "content", method: str = "GET", times: int | None = None) -> Rule:
    """The fault for the first `times` such requests, or for all of them."""
    left = repeat(fault) if times is None else repeat(fault, times)

    def rule(request: Request) -> Fault | None:
        fits = (request.kind, request.method) == (kind, method) and fnmatch(request.name, name)
        return next(left, None) if fits else None

    return rule


@dataclass(frozen=True)
class Status(Fault):
    """An error of the hub, or of what stands before it: 401, 403, 404, 500, 503."""

    status: int
    error: str = ""  # the hub's code: RepoNotFound, RevisionNotFound, EntryNotFound, GatedRepo
    message: str = ""
    retry_after: str = ""

    def steps(self, answer: Answer, request: Request) -> Iterable[Step]:
        headers = {"X_Error_Code": self.error, "X_Error_Message": self.message, "Retry_After": self.retry_after}
        said = {name: value for name, value in headers.items() if value}
        return Answer.of(self.status, self.message.encode(), **said)


def too_many(seconds: int, *, dated: bool = False) -> Status:
    """429, with the wait in seconds or as a date from now."""
    wait = formatdate(time() + seconds, usegmt=True) if dated else str(seconds)
    return Status(429, message="We had to rate limit you", retry_after=wait)


@dataclass(frozen=True)
class Redirected(Fault):
    """The same path at another address, or for ever at this one."""

    address: str = ""
    status: int = 308

    def steps(self, answer: Answer, request: Request) -> Iterable[Step]:
        return Answer.of(self.status, Location=(self.address or request.origin) + request.target)


@dataclass(frozen=True)
class Captive(Fault):
    """A login page, whatever was asked for."""

    def steps(self, answer: Answer, request: Request) -> Iterable[Step]:
        return Answer.of(200, b"<!DOCTYPE html><html><title>Log in</title><form></form></html>", "text/html")


@dataclass(frozen=True)
class Silent(Fault):
    """Nothing at all for so long, and then the answer."""

    seconds: float = math.inf

    def steps(self, answer: Answer, request: Request) -> Iterator[Step]:
        yield self.seconds
        yield from answer


@dataclass(frozen=True)
class Stalled(Fault):
    """So many bytes of the body, and then nothing more, though the connection stays."""

    after: int

    def steps(self, answer: Answer, request: Request) -> Iterator[Step]:
        yield answer.head
        yield answer.body[: self.after]
        if self.after < len(answer.body):
            yield math.inf


@dataclass(frozen=True)
class Truncated(Fault):
    """So many bytes of the body, of more that were announced, and the connection is closed."""

    after: int

    def steps(self, answer: Answer, request: Request) -> Iterator[Step]:
        yield answer.head
        yield answer.body[: self.after]


@dataclass(frozen=True)
class Reset(Fault):
    """The connection is reset, at once or after so many bytes of the body."""

    after: int | None = None

    def steps(self, answer: Answer, request: Request) -> Iterator[Step]:
        if self.after is not None:
            yield answer.head
            yield answer.body[: self.after]
        raise ConnectionResetError


@dataclass(frozen=True)
class Slow(Fault):
    """The body at so many bytes per second; at a few it drips."""

    rate: float

    def steps(self, answer: Answer, request: Request) -> Iterator[Step]:
        yield answer.head
        size = max(1, int(self.rate / 50))
        for start in range(0, len(answer.body), size):
            yield size / self.rate
            yield answer.body[start : start + size]


@dataclass(frozen=True)
class WrongBytes(Fault):
    """As many bytes as there should be; the one at `at` is not the right one."""

    at: int = 0

    def steps(self, answer: Answer, request: Request) -> Iterable[Step]:
        before, rest = answer.body[: self.at], answer.body[self.at :]
        return replace(answer, body=before + bytes(byte ^ 0xFF for byte in rest[:1]) + rest[1:])


@dataclass(frozen=True)
class RangeIgnored(Fault):
    """200 and the whole file for a request of a part."""

    def steps(self, answer: Answer, request: Request) -> Iterable[Step]:
        return answer.whole or answer


@dataclass(frozen=True)
class WrongRange(Fault):
    """Another part than the one asked for, and says so."""

    shift: int = 1

    def steps(self, answer: Answer, request: Request) -> Iterable[Step]:
        if answer.whole is None:
            return answer
        start, last, _ = (int(number) for number in re.findall(r"\d+", answer.headers["Content-Range"]))
        return answer.whole.ranged(f"bytes={max(start - self.shift, 0)}-{last - self.shift}", None)


@dataclass(frozen=True)
class Gzipped(Fault):
    """The body compressed, though nobody asked for it."""

    def steps(self, answer: Answer, request: Request) -> Iterable[Step]:
        body = gzip.compress(answer.body)
        changed = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}
        return replace(answer, headers=answer.headers | changed, body=body)


@dataclass(frozen=True)
class Announced(Fault):
    """Another hash or size than the files of that name have, in headers and in the hub's lists of files."""

    name: str = "*"
    etag: str | None = None
    size: int | None = None

    def steps(self, answer: Answer, request: Request) -> Iterable[Step]:
        if request.kind in ("info", "tree"):
            return self._listed(answer)
        etag = self.etag and f'"{self.etag}"'
        if "X-Linked-Size" in answer.headers:
            changes = {"X-Linked-ETag": etag, "X-Linked-Size": self.size}
        else:
            changes = {"ETag": etag, "Content-Length": self.size}
        return replace(answer, headers=answer.headers | {n: str(v) for n, v in changes.items() if v is not None})

    def _listed(self, answer: Answer) -> Answer:
        listing = json.loads(answer.body)
        changes = {"size": self.size, "sha256": self.etag, "oid": self.etag, "blobId": self.etag}
        for entry in listing if isinstance(listing, list) else listing["siblings"]:
            if fnmatch(entry.get("rfilename") or entry["path"], self.name):
                for part in (entry, entry.get("lfs", {})):
                    part.update({k: v for k, v in changes.items() if k in part and v is not None})
        return Answer.of(200, json.dumps(listing).encode(), "application/json")
