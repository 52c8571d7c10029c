"""Addresses at which there is no hub."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def refused() -> Iterator[str]:
    """Nobody listens there: a connection is refused."""
    with _bound() as closed:
        yield _address(closed)


@contextmanager
def unanswered() -> Iterator[str]:
    """A connection is made, and nobody ever says anything."""
    with _bound() as silent:
        silent.listen()
        yield _address(silent)


@contextmanager
def unconnectable() -> Iterator[str]:
    """A connection is never made, nor refused, as behind a firewall that drops packets (on Linux)."""
    with ExitStack() as stack:
        full = stack.enter_context(_bound())
        full.listen(0)
        for _ in range(3):  # they fill the queue
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield _address(full)


def _bound() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def _address(bound: socket.socket) -> str:
    return f"http://127.0.0.1:{bound.getsockname()[1]}"
