"""A `QdrantStore` on the stand-in, the same way over HTTP and over gRPC."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from qdrant_client import QdrantClient

from m3stores import QdrantStore
from qdrant_standin.faults import Fault
from qdrant_standin.rest import RestServer
from qdrant_standin.rpc import RpcServer

OPENAPI = os.environ.get("M3_QDRANT_OPENAPI")
_CALLS = {  # HTTP method and end of the path, gRPC's path; the collection's name is "test"
    "create": ("PUT", "/test", "Collections/Create"),
    "update": ("PATCH", "/test", "Collections/Update"),
    "alias": ("POST", "/collections/aliases", "Collections/UpdateAliases"),
    "add vector": ("PUT", "/vectors/", "Points/CreateVectorName"),
    "upsert": ("PUT", "/points", "Points/Upsert"),
    "delete": ("POST", "/points/delete", "Points/Delete"),
    "count": ("POST", "/points/count", "Points/Count"),
    "query": ("POST", "/points/query/batch", "Points/QueryBatch"),
}


@dataclass
class Serving:
    """The stand-in, asked by one of its protocols."""

    rest: RestServer
    rpc: RpcServer
    grpc: bool

    @property
    def where(self) -> dict[str, Any]:
        """The arguments of a store that say where the server is."""
        return {"url": self.rest.url, "prefer_grpc": self.grpc, "grpc_port": self.rpc.port}

    def store(self, collection: str = "test", **options: Any) -> QdrantStore:
        return QdrantStore(collection, **{**self.where, **options})

    @contextmanager
    def client(self) -> Iterator[QdrantClient]:
        """Another program's."""
        client = QdrantClient(host="127.0.0.1", port=self.rest.port, grpc_port=self.rpc.port, check_compatibility=False)
        try:
            yield client
        finally:
            client.close()

    def order(self, call: str, **trouble: Any) -> None:
        """Trouble for the next requests of one kind."""
        method, path, rpc_path = _CALLS[call]
        if self.grpc:
            self.rpc.faults.append(Fault(path=rpc_path, **trouble))
        else:
            self.rest.faults.append(Fault(method=method, path=path, **trouble))

    def requests(self, call: str) -> list[int]:
        """The bytes of each request of one kind so far."""
        method, path, rpc_path = _CALLS[call]
        if self.grpc:
            return [size for _, at, size in self.rpc.requests if at.endswith(rpc_path)]
        return [size for by, at, size in self.rest.requests if by == method and at.endswith(path)]

    @property
    def largest(self) -> int:
        """Bytes of the largest request so far."""
        return max(size for _, _, size in [*self.rest.requests, *self.rpc.requests])


@contextmanager
def serving(protocol: str, api_key: str | None = None) -> Iterator[Serving]:
    """Serves by `"rest"` or `"grpc"`, and holds all requests against the API description, if there is one.

    What goes by gRPC is not in the description.
    """
    with RestServer(openapi=OPENAPI, api_key=api_key) as rest, RpcServer(rest.backend, api_key=api_key) as rpc:
        yield Serving(rest, rpc, protocol == "grpc")
        assert rest.violations == []
