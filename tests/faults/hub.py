"""The hub: what it keeps, what it answers, and what it notes."""

import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from hashlib import md5, sha1
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

from faults.exchange import Answer, Request, Step
from faults.kinds import Fault, Rule
from faults.repository import File, Repository, files_of
from faults.serving import Listener

CERTIFICATE = Path(__file__).parent / "self_signed.pem"  # with its key; for 127.0.0.1 and localhost

_LOGIN = "You must have access to it and be authenticated to access it. Please log in."


class Hub:
    """A model hub. It is there as a context manager; stopping it ends every answer that still goes on.

    Args:
        prefix: the path below which a proxy mounts the hub, such as `"/https/hf-mirror.com"`; then all redirects are
            absolute.
        cdn: where the large files are: at another port, or here, outside the prefix.
        tls: whether it speaks TLS, with the certificate `CERTIFICATE` that nobody trusts.

    Attributes:
        fault: what goes wrong with every answer, or a rule that says it for each request, such as `on(…)`.
        requests: all of them, from when they arrive.
        fetched: bytes sent of each file, by its path in its repository.
        repositories: by name.
        signed: the files by the signatures that large ones were redirected with; cleared, all links have expired.
    """

    def __init__(self, prefix: str = "", *, cdn: Literal["elsewhere", "here"] = "elsewhere", tls: bool = False) -> None:
        self.prefix, self._cdn_elsewhere, self._tls = prefix, cdn == "elsewhere", tls
        self.fault: Fault | Rule | None = None
        self.requests: list[Request] = []
        self.fetched: Counter[str] = Counter()
        self.repositories: dict[str, Repository] = {}
        self.signed: dict[str, tuple[str, File]] = {}
        self._origin = self._cdn = ""
        self._changed = threading.Condition()
        self._running = ExitStack()

    @property
    def address(self) -> str:
        """What to give as the endpoint."""
        return self._origin + self.prefix

    def __enter__(self) -> Self:
        certificate = CERTIFICATE if self._tls else None
        self._origin = self._cdn = self._running.enter_context(Listener(self, certificate)).origin
        if self._cdn_elsewhere:
            self._cdn = self._running.enter_context(Listener(self, certificate)).origin
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def add(
        self,
        name: str,
        source: Path | Mapping[str, bytes],
        *,
        commit: str | None = None,
        branch: str = "main",
        token: str | None = None,
        gated: bool = False,
    ) -> str:
        """Commits a folder's files as they are now, or contents by path, and returns the commit.

        Args:
            name: the repository, made if it is new.
            source: all files of the commit.
            commit: its id, 40 hex digits; by default one that depends on the files.
            branch: a branch or tag, which is this commit from now on.
            token: of a new repository that only this token may read; others are public.
            gated: whether the token is for its files only, and everyone may see what there is.
        """
        repository = self.repositories.setdefault(name, Repository(name, token, gated))
        files = files_of(source)
        if commit is None:
            commit = sha1("".join(name + file.etag for name, file in files.items()).encode()).hexdigest()
        repository.commits[commit] = files
        repository.refs[branch] = commit
        return commit

    def wait_for(self, condition: Callable[[], bool], seconds: float = 10) -> bool:
        """Waits until a condition on what the hub has noted holds, and says whether it does."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    def note(self, request: Request, sent: int = 0) -> None:
        """Notes a new request, or bytes of a file that were sent for one."""
        with self._changed:
            if sent:
                self.fetched[request.name] += sent
            else:
                self.requests.append(request)
            self._changed.notify_all()

    def answer(self, request: Request) -> Answer:
        """The true answer."""
        request.route(self.prefix)
        self.note(request)
        if request.cdn:
            return self._blob(request)
        if request.kind == "other":
            return Answer.of(404, b"<!DOCTYPE html><html><title>404</title></html>", "text/html; charset=utf-8")
        repository = self.repositories.get(request.repo)
        allowed = repository and repository.token in (None, request.token)
        if not repository or (repository.private and not allowed):
            if request.token:
                return _refusal(404, "RepoNotFound", "Repository not found")
            return _refusal(401, "RepoNotFound", "Invalid username or password.")
        commit = repository.refs.get(request.revision, request.revision)
        if commit not in repository.commits:
            return _refusal(404, "RevisionNotFound", f"Invalid rev id: {request.revision}")
        if request.kind == "info":
            return _json(repository.info(commit, blobs=request.query.get("blobs") in ("true", "1")))
        if request.kind == "tree":
            return _json(repository.tree(commit, request.name, recursive=request.query.get("recursive") == "true"))
        if not allowed:
            status, why = (403, "You are not in the authorized list.") if request.token else (401, _LOGIN)
            return _refusal(status, "GatedRepo", f"Access to model {repository.name} is restricted. {why}")
        file = repository.commits[commit].get(request.name)
        if file is None:
            return _refusal(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
        return self._file(request, repository, commit, file)

    def steps(self, request: Request, answer: Answer) -> Iterable[Step]:
        """What goes out instead of the true answer."""
        fault = self.fault if isinstance(self.fault, Fault) or self.fault is None else self.fault(request)
        return fault.steps(answer, request) if fault else answer

    def _file(self, request: Request, repository: Repository, commit: str, file: File) -> Answer:
        """A file's bytes; from a resolve address, where there is another for them, a redirect to it."""
        if file.lfs:
            signature = secrets.token_hex(16)
            self.signed[signature] = request.name, file
            location = (
                f"{self._cdn}/cdn/{file.sha256}?Expires=4102444800&Signature={signature}&Key-Pair-Id=K2L8F4GPSG1IFC"
            )
            linked = {"X_Linked_ETag": file.etag, "X_Linked_Size": str(len(file.content))}
            return _redirect(302, location, commit, **linked)
        if request.kind == "resolve" and file.content and repository.token is None and "/" in repository.name:
            cached = f"/api/resolve-cache/models/{repository.name}/{commit}/{quote(request.name)}"
            location = f"{self.address if self.prefix else ''}{cached}?etag={quote(file.etag)}"
            return _redirect(307, location, commit)
        request.kind = "content"
        return _content(request, file.content, file.etag, X_Repo_Commit=commit)

    def _blob(self, request: Request) -> Answer:
        """A large file, for a signature and nothing else."""
        name, file = self.signed.get(request.query.get("Signature", ""), ("", None))
        if file is None:
            return Answer.of(403, b"<Error><Code>AccessDenied</Code></Error>", "application/xml")
        request.kind, request.name = "content", name
        if "Authorization" in request.headers:
            return Answer.of(400, b"<Error><Code>InvalidArgument</Code></Error>", "application/xml")
        return _content(request, file.content, f'"{md5(file.content).hexdigest()}"')


def _content(request: Request, content: bytes, etag: str, **headers: str) -> Answer:
    whole = Answer.of(200, content, "application/octet-stream", Accept_Ranges="bytes", ETag=etag, **headers)
    return whole.ranged(request.headers.get("Range"), request.headers.get("If-Range"))


def _redirect(status: int, location: str, commit: str, **headers: str) -> Answer:
    body = f"Redirecting to {location}".encode()
    return Answer.of(status, body, Location=location, X_Repo_Commit=commit, Accept_Ranges="bytes", **headers)


def _refusal(status: int, error: str, message: str, **headers: str) -> Answer:
    body = json.dumps({"error": message}).encode()
    return Answer.of(status, body, "application/json", X_Error_Code=error, X_Error_Message=message, **headers)


def _json(value: Any) -> Answer:
    return Answer.of(200, json.dumps(value).encode(), "application/json; charset=utf-8")
