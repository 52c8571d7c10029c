"""One way to call qdrant-client's four faces: over HTTP or gRPC, blocking or asyncio."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client import models as m
from qdrant_client.http.exceptions import UnexpectedResponse

from qdrant_standin.rest import RestServer
from qdrant_standin.rpc import RpcServer

KINDS = ("rest", "grpc", "async-rest", "async-grpc")
_CODES = {400: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}


class Ask:
    """A client of either kind; an async one's methods block."""

    def __init__(self, client: Any, runner: asyncio.Runner | None = None) -> None:
        self._client, self._runner = client, runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        if self._runner is None:
            return method
        return lambda *args, **options: self._runner.run(method(*args, **options))


@contextmanager
def both_servers() -> Iterator[tuple[RestServer, RpcServer]]:
    """Of one backend; REST requests are checked against the API description that `M3_QDRANT_OPENAPI` names."""
    with RestServer(openapi=os.environ.get("M3_QDRANT_OPENAPI")) as rest, RpcServer(rest.backend) as rpc:
        yield rest, rpc
        assert rest.violations == []


@contextmanager
def asking(kind: str, rest: RestServer, rpc: RpcServer) -> Iterator[Ask]:
    """A client of one of the kinds."""
    where = {"host": "127.0.0.1", "port": rest.port, "grpc_port": rpc.port, "prefer_grpc": "grpc" in kind}
    if "async" not in kind:
        client = QdrantClient(**where)
        yield Ask(client)
        client.close()
        return
    with asyncio.Runner() as runner:
        asked = Ask(AsyncQdrantClient(**where), runner)
        yield asked
        asked.close()


def field(key: str, **condition: Any) -> m.Filter:
    return m.Filter(must=[m.FieldCondition(key=key, **condition)])


def refusal(status: int, act: Callable[..., Any], *args: Any, **options: Any) -> str:
    """The text that a call is refused with; an error of the test if it is not, or with another status."""
    with pytest.raises((UnexpectedResponse, grpc.RpcError)) as caught:
        act(*args, **options)
    if isinstance(caught.value, UnexpectedResponse):
        assert caught.value.status_code == status
        return json.loads(caught.value.content)["status"]["error"]
    assert caught.value.code().name == _CODES[status]
    return caught.value.details()
