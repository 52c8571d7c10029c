"""Connections: requests are read, and steps are taken."""

import math
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from select import select
from typing import Protocol, Self
from weakref import WeakSet

from faults.exchange import Answer, Request, Step

_PORTION = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Answers(Protocol):
    """What a listener asks."""

    def answer(self, request: Request) -> Answer: ...

    def steps(self, request: Request, answer: Answer) -> Iterable[Step]: ...

    def note(self, request: Request, sent: int = 0) -> None: ...


class Listener(ThreadingHTTPServer):
    """Listens at a port of its own while it is entered. Leaving ends all connections and waits for their threads."""

    daemon_threads = False

    def __init__(self, hub: Answers, certificate: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub
        self.origin = f"http{'s' if certificate else ''}://127.0.0.1:{self.server_port}"
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if certificate else None
        if self._context and certificate:
            self._context.load_cert_chain(certificate)
        self._connections: WeakSet[socket.socket] = WeakSet()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        for connection in self._connections:
            with suppress(OSError):  # already over
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self.server_close()
        self._thread.join()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        if self._context:
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._connections.add(connection)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):  # as it is when a client goes away
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Takes the steps of each answer."""

    server: Listener
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.server.hub
        request = Request(self.command, self.server.origin, self.path, self.headers)
        answer = hub.answer(request)
        try:
            complete = self._take(hub.steps(request, answer), request)
        except ConnectionResetError:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            socket.close(self.connection.detach())
            complete = False
        self.close_connection |= not complete

    def _take(self, steps: Iterable[Step], request: Request) -> bool:
        """Returns whether all was sent that was announced, so that the connection can go on."""
        owed = 0
        for step in steps:
            if not isinstance(step, bytes):
                if self._gone_within(step):
                    return False
            elif not request.status:
                request.status = int(step.split(b" ", 2)[1])
                self.wfile.write(step)
                if request.method == "HEAD":
                    return True
                owed = int(step.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            else:
                owed -= self._send(step, request)
        return owed == 0

    def _send(self, body: bytes, request: Request) -> int:
        for start in range(0, len(body), _PORTION):
            portion = body[start : start + _PORTION]
            self.wfile.write(portion)
            if request.kind == "content" and request.status < 300:
                self.server.hub.note(request, len(portion))
        return len(body)

    def _gone_within(self, seconds: float) -> bool:
        """Whether the client goes away or the hub stops in that time."""
        return bool(select([self.connection], [], [], None if seconds == math.inf else seconds)[0])

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""
