"""What the stand-in refuses beside the client's own operations: bodies, keys, violations, and faults to order."""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

import grpc
from qdrant_client import QdrantClient
from qdrant_client import models as m
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from qdrant_standin import Fault, RestServer, RpcServer

OPENAPI = os.environ.get("M3_QDRANT_OPENAPI")
needs_openapi = pytest.mark.skipif(not OPENAPI, reason="M3_QDRANT_OPENAPI names no API description")
UNCHECKED = {"check_compatibility": False}  # the client asks for the version on a thread that may outlive the server


@pytest.fixture
def rest() -> Iterator[tuple[RestServer, QdrantClient]]:
    """A server and a client for one test, with the collection `u` of one unnamed vector."""
    with RestServer(openapi=OPENAPI) as server:
        client = QdrantClient(url=server.url, timeout=5, **UNCHECKED)
        client.create_collection("u", m.VectorParams(size=2, distance=m.Distance.COSINE))
        yield server, client
        client.close()


@pytest.fixture
def rpc() -> Iterator[tuple[RpcServer, QdrantClient]]:
    """The same over gRPC."""
    with RestServer() as http, RpcServer(http.backend) as server:
        client = QdrantClient("127.0.0.1", port=http.port, grpc_port=server.port, prefer_grpc=True, **UNCHECKED)
        client.create_collection("u", m.VectorParams(size=2, distance=m.Distance.COSINE))
        yield server, client
        client.close()


def raw(url: str, method: str, body: bytes | None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(asked) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_http_rules(rest: tuple[RestServer, QdrantClient]) -> None:
    server, client = rest
    points = f"{server.url}/collections/u/points?wait=true"
    assert raw(points, "PUT", b" " * ((32 << 20) + 1))[0] == 413
    for body in (b"{", b'{"points": [{"id": 1, "vector": [NaN, 1]}]}'):
        assert raw(points, "PUT", body)[0] == 400
    status, text = raw(points, "PUT", b'{"points": [{"id": "no", "vector": [1, 1]}]}')
    assert (status, "not a valid point ID" in text) == (400, True)
    assert raw(f"{server.url}/collections/u/points/5", "GET", None)[0] == 404
    client.upsert("u", [m.PointStruct(id=1, vector=[1.0])], wait=False)  # what goes wrong later is not told
    assert client.count("u").count == 0
    assert ("PUT", "/collections/u/points", 1 + (32 << 20)) in server.requests


def test_api_key() -> None:
    with RestServer(api_key="secret") as http, RpcServer(http.backend, api_key="secret") as rpc:
        assert raw(f"{http.url}/collections", "GET", None)[0] == 401
        assert raw(f"{http.url}/collections", "GET", None, {"api-key": "secret"})[0] == 200
        where = {"port": http.port, "grpc_port": rpc.port, "prefer_grpc": True, "https": False, **UNCHECKED}
        without = QdrantClient("127.0.0.1", **where)
        with pytest.raises(grpc.RpcError, match="API key"):
            without.get_collections()
        without.close()
        with pytest.warns(UserWarning, match="insecure"):
            client = QdrantClient("127.0.0.1", **where, api_key="secret")
        assert client.get_collections().collections == []
        client.close()


@needs_openapi
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "points/query", {"query": [1, 1], "limit": "ten"}),
        ("POST", "points/query", {"query": [1, 1], "top": 10}),
        ("POST", "points/scroll", {"filter": {"must": [{"key": "a", "match": {"value": 1.5}}]}}),
        ("PUT", "points", {"points": [{"id": 1, "vector": [1, None]}]}),
        ("PUT", "points?waits=true", {"points": []}),
        ("POST", "nowhere", {}),
    ],
)
def test_violations(rest: tuple[RestServer, QdrantClient], method: str, path: str, body: Any) -> None:
    server, _ = rest
    status, text = raw(f"{server.url}/collections/u/{path}", method, json.dumps(body).encode())
    assert status == 400
    assert len(server.violations) == 1
    assert json.dumps(server.violations[0])[1:-1] in text


def test_http_faults(rest: tuple[RestServer, QdrantClient]) -> None:
    server, client = rest
    server.faults.append(Fault(429, retry_after=3))
    with pytest.raises(ResourceExhaustedResponse) as caught:
        client.count("u")
    assert int(caught.value.retry_after_s) == 3
    server.faults.append(Fault(503, path="/points", method="PUT", times=2))
    assert client.count("u").count == 0
    one = [m.PointStruct(id=1, vector=[1.0, 1.0])]
    for _ in range(2):
        with pytest.raises(UnexpectedResponse, match="fault") as refused:
            client.upsert("u", one)
        assert refused.value.status_code == 503
    for fault, points in ((Fault(drop="before"), 0), (Fault(drop="after"), 1), (Fault(truncate=True), 1)):
        server.faults.append(fault)
        with pytest.raises(ResponseHandlingException):
            client.upsert("u", one)
        assert client.count("u").count == points
    server.faults.append(Fault(delay=0.1))
    start = time.perf_counter()
    client.count("u")
    assert time.perf_counter() - start >= 0.1
    assert len(server.faults) == 0


def test_grpc_faults(rpc: tuple[RpcServer, QdrantClient]) -> None:
    server, client = rpc
    server.faults.append(Fault(429, retry_after=3))
    with pytest.raises(ResourceExhaustedResponse) as caught:
        client.count("u")
    assert caught.value.retry_after_s == 3
    one = [m.PointStruct(id=1, vector=[1.0, 1.0])]
    cases = [(Fault(503, path="Upsert"), 0), (Fault(drop="before"), 0), (Fault(drop="after"), 1)]
    for fault, points in cases:
        server.faults.append(fault)
        with pytest.raises(grpc.RpcError) as lost:
            client.upsert("u", one)
        assert lost.value.code() == grpc.StatusCode.UNAVAILABLE
        assert client.count("u").count == points
    nan = [m.PointStruct(id=1, vector=[float("nan"), 1.0])]
    with pytest.raises(grpc.RpcError, match="not finite"):
        client.upsert("u", nan)
    assert [path for _, path, _ in server.requests].count("/qdrant.Points/Upsert") == 4
