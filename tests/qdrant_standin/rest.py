"""The stand-in's HTTP interface."""

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from qdrant_standin.backend import Backend
from qdrant_standin.faults import Fault, Faults
from qdrant_standin.refusals import Refusal, bad_format
from qdrant_standin.routes import VERSION, answer

MOST_BYTES = 32 << 20  # of a request's body


class RestServer:
    """Serves a backend on a free port of this machine, from a context manager.

    Attributes:
        backend: what it serves; `RpcServer` can serve the same.
        requests: method, path, and bytes of the body of each request, in order. The question for the version, which
            clients ask on a thread of their own, is neither here nor does it meet faults.
        faults: trouble for the next requests.
        violations: what was asked (or answered) against the API description.
    """

    def __init__(
        self,
        backend: Backend | None = None,
        *,
        api_key: str | None = None,
        openapi: str | Path | None = None,
        oversize_status: int = 413,
    ) -> None:
        """Does not listen yet.

        Args:
            backend: the caller's to close; None means one of its own.
            api_key: what clients have to send.
            openapi: a file with Qdrant's API description to hold requests against.
            oversize_status: of the answer to a body that is too large. Servers have answered 400, proxies answer 413.
        """
        self._owned = backend is None
        self.backend = backend or Backend()
        self.api_key, self.oversize_status = api_key, oversize_status
        self.openapi = None
        if openapi is not None:
            from qdrant_standin.openapi import load  # needs jsonschema

            self.openapi = load(openapi)
        self.requests: list[tuple[str, str, int]] = []
        self.faults = Faults()
        self.violations: list[str] = []

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"standin": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._owned:
            self.backend.close()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone, tired of a delay, is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    standin: RestServer
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # headers and body leave together
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    do_PUT = do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _serve(self) -> None:
        start = time.perf_counter()
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path == "/":
            self._send(200, VERSION)
            return
        self.standin.requests.append((self.command, url.path, len(body)))
        fault = self.standin.faults.take(self.command, url.path)
        time.sleep(fault.delay)
        if fault.drop == "before":
            self._drop()
        elif fault.status is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._send(fault.status, _error("A fault to order", start), headers)
        else:
            self._act(url.path, url.query, body, fault, start)

    def _act(self, path: str, query: str, body: bytes, fault: Fault, start: float) -> None:
        if not self._is_allowed():
            self._send(401, "Must provide an API key or an Authorization bearer token")
            return
        try:
            result = self._result(path, query, body)
        except Refusal as refusal:
            status, shown = refusal.status, _error(refusal.message, start)
        else:
            status, shown = 200, {"result": result, "status": "ok", "time": time.perf_counter() - start}
            if self.standin.openapi and (wrong := self.standin.openapi.check_answer(self.command, path, shown)):
                self.standin.violations += wrong
                status, shown = 500, _error(wrong[0], start)
        if fault.drop == "after":
            self._drop()
        else:
            self._send(status, shown, truncate=fault.truncate)

    def _is_allowed(self) -> bool:
        key = self.standin.api_key
        return key is None or self.headers.get("api-key") == key or self.headers.get("Authorization") == f"Bearer {key}"

    def _result(self, path: str, query: str, body: bytes) -> Any:
        if len(body) > MOST_BYTES:
            raise Refusal(
                self.standin.oversize_status,
                f"Payload error: JSON payload ({len(body)} bytes) is larger than allowed (limit: {MOST_BYTES} bytes).",
            )
        try:
            asked = json.loads(body, parse_constant=_no_constant) if body else None
        except ValueError as error:
            raise bad_format(str(error)) from error
        if self.standin.openapi and (wrong := self.standin.openapi.check_request(self.command, path, query, asked)):
            self.standin.violations += wrong
            raise bad_format("; ".join(wrong))
        wait = parse_qs(query).get("wait", ["false"])[0] == "true"
        try:
            return answer(self.standin.backend, self.command, path, asked, wait)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            # Without the API description, a malformed body is noticed only here; with it, the stand-in is to blame.
            raise Refusal(500 if self.standin.openapi else 400, f"{type(error).__name__}: {error}") from error

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None, truncate: bool = False) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if truncate else content)
        if truncate:
            self.wfile.flush()
            self._drop()

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _error(message: str, start: float) -> dict[str, Any]:
    return {"status": {"error": message}, "time": time.perf_counter() - start}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
