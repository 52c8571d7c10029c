"""A request as the hub reads it, and the answer it gives."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http import HTTPStatus
from typing import Literal, Self
from urllib.parse import parse_qsl, unquote

Kind = Literal["info", "tree", "resolve", "content", "other"]
Step = bytes | float  # what goes out, or seconds of silence

_REPO = r"(?P<repo>[^/]+(?:/[^/]+)?)"
_ROUTES: dict[Kind, re.Pattern[str]] = {
    "content": re.compile(r"/api/resolve-cache/models/(?P<repo>[^/]+/[^/]+)/(?P<revision>\w+)/(?P<name>.+)"),
    "tree": re.compile(rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)(?:/(?P<name>.+))?"),
    "info": re.compile(rf"/api/models/{_REPO}(?:/revision/(?P<revision>[^/]+))?"),
    "resolve": re.compile(rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)"),
}


@dataclass
class Request:
    """What was asked for.

    Attributes:
        method: `"GET"` or `"HEAD"`.
        origin: scheme, host and port that were asked.
        target: path and query, as they were sent.
        headers: by name, in any case.
        kind: what it is about; `"content"` is the bytes of a file.
        name: the file's path in its repository, or `""`.
        cdn: whether it went to the content network instead of the hub.
        status: of the answer, 0 until it has begun.
    """

    method: str
    origin: str
    target: str
    headers: Message
    kind: Kind = "other"
    repo: str = ""
    revision: str = "main"
    name: str = ""
    cdn: bool = False
    status: int = 0
    query: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def route(self, prefix: str) -> None:
        """Finds out what a request to a hub below `prefix` is about."""
        self.query = dict(parse_qsl(self.target.partition("?")[2]))
        self.cdn = self.path.startswith("/cdn/")
        if self.cdn or not self.path.startswith(prefix):
            return
        for kind, pattern in _ROUTES.items():
            if match := pattern.fullmatch(self.path.removeprefix(prefix)):
                self.kind = kind
                for name, value in match.groupdict().items():
                    if value is not None:
                        setattr(self, name, unquote(value))
                return


@dataclass(frozen=True)
class Answer:
    """A whole answer. Its steps are its head and its body."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: Self | None = None  # what it would be without the request's Range

    @classmethod
    def of(cls, status: int, body: bytes = b"", media: str = "text/plain; charset=utf-8", **headers: str) -> Self:
        """Headers are written with underscores: `X_Repo_Commit="…"`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, {"Content-Type": media, "Content-Length": str(len(body)), **given}, body)

    @property
    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", f"Date: {formatdate(usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def __iter__(self) -> Iterator[Step]:
        yield self.head
        yield self.body

    def ranged(self, asked: str | None, condition: str | None) -> "Answer":
        """The part of a file that `Range` asks for, if `If-Range` allows it."""
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
        if not match or condition not in (None, self.headers["ETag"]):
            return self
        first, last, size = match[1], match[2], len(self.body)
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        if start >= stop:
            return Answer.of(416, Content_Range=f"bytes */{size}")
        part = self.body[start:stop]
        changed = {"Content-Length": str(len(part)), "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return Answer(206, self.headers | changed, part, self)
