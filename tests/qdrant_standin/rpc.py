"""The stand-in's gRPC interface: qdrant-client's own service stubs over the same backend."""

import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, Self

import grpc
from qdrant_client import grpc as proto

from qdrant_standin.backend import Backend
from qdrant_standin.faults import Fault, Faults
from qdrant_standin.refusals import Refusal
from qdrant_standin.routes import VERSION
from qdrant_standin.rpc_collections import Collections
from qdrant_standin.rpc_points import Points

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ALREADY_EXISTS,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_UNBOUNDED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class RpcServer:
    """Serves a backend on a free port of this machine, from a context manager.

    A dropped connection is told as UNAVAILABLE, as clients see it; a truncated answer as INTERNAL.

    Attributes:
        backend: what it serves; usually that of a `RestServer`.
        requests: `POST`, path, and bytes of each request, in order.
        faults: trouble for the next requests.
    """

    def __init__(self, backend: Backend, *, api_key: str | None = None) -> None:
        """Does not listen yet. The backend is the caller's to close."""
        self.backend, self.api_key = backend, api_key
        self.requests: list[tuple[str, str, int]] = []
        self.faults = Faults()

    def __enter__(self) -> Self:
        pool = futures.ThreadPoolExecutor(max_workers=16)
        self._server = grpc.server(pool, interceptors=[_Interceptor(self)], options=_UNBOUNDED)
        proto.add_QdrantServicer_to_server(_Health(), self._server)
        proto.add_CollectionsServicer_to_server(Collections(self.backend), self._server)
        proto.add_PointsServicer_to_server(Points(self.backend), self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=1).wait()


class _Health(proto.QdrantServicer):
    def HealthCheck(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name
        return proto.HealthCheckReply(**VERSION)


class _Interceptor(grpc.ServerInterceptor):
    """Around every call: the log, the faults, the key, and the server's way to refuse."""

    def __init__(self, standin: RpcServer) -> None:
        self._standin = standin

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None

        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            self._standin.requests.append(("POST", details.method, request.ByteSize()))
            fault = self._standin.faults.take("POST", details.method)
            time.sleep(fault.delay)
            try:
                self._check(details, fault)
                answer = handler.unary_unary(request, context)
            except Refusal as refusal:
                if refusal.status == 429 and fault.retry_after is not None:
                    context.set_trailing_metadata((("retry-after", str(fault.retry_after)),))
                context.abort(_CODES.get(refusal.status, grpc.StatusCode.UNKNOWN), refusal.message)
            except (ValueError, TypeError) as error:  # the client's conversions do not take the message
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{type(error).__name__}: {error}")
            if fault.drop:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Connection dropped")
            if fault.truncate:
                context.abort(grpc.StatusCode.INTERNAL, "Answer truncated")
            return answer

        return grpc.unary_unary_rpc_method_handler(
            serve, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )

    def _check(self, details: Any, fault: Fault) -> None:
        """Raises before anything is done."""
        if fault.drop == "before":
            raise Refusal(503, "Connection dropped")
        if fault.status is not None:
            raise Refusal(fault.status, "A fault to order")
        key = self._standin.api_key
        sent = dict(details.invocation_metadata).get("api-key", "")
        if key is not None and sent != key:
            raise Refusal(401, "Must provide an API key or an Authorization bearer token")
