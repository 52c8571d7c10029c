"""gRPC's service for points. Its methods have the service's names."""
# ruff: noqa: N802

from collections.abc import Callable
from typing import Any

from qdrant_client import grpc as proto
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, grpc_field_type_to_payload_schema

from qdrant_standin.backend import Backend
from qdrant_standin.rpc_wire import fields, plain, record, same, scored, selected, update_result, updated

_READ = {
    "with_payload": GrpcToRest.convert_with_payload_interface,
    "with_vectors": GrpcToRest.convert_with_vectors_selector,
}
_FILTER = {"filter": GrpcToRest.convert_filter}
_UPDATE_FILTER = {"update_filter": GrpcToRest.convert_filter}


class Points(proto.PointsServicer):
    """Each method makes the JSON of the request, asks the backend, and makes a message of the answer."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def Upsert(self, request: Any, context: Any) -> Any:
        asked = fields(request, **_UPDATE_FILTER, update_mode=GrpcToRest.convert_update_mode)
        return self._update(request, "upsert", {**asked, "points": _points(request, GrpcToRest.convert_point_struct)})

    def UpdateVectors(self, request: Any, context: Any) -> Any:
        points = _points(request, GrpcToRest.convert_point_vectors)
        return self._update(request, "update_vectors", {**fields(request, **_UPDATE_FILTER), "points": points})

    def Delete(self, request: Any, context: Any) -> Any:
        return self._update(request, "delete", selected(request.points))

    def DeleteVectors(self, request: Any, context: Any) -> Any:
        asked = {**selected(request.points_selector), "vector": list(request.vectors.names)}
        return self._update(request, "delete_vectors", asked)

    def SetPayload(self, request: Any, context: Any) -> Any:
        return self._update(request, "set_payload", _payload(request))

    def OverwritePayload(self, request: Any, context: Any) -> Any:
        return self._update(request, "overwrite_payload", _payload(request))

    def DeletePayload(self, request: Any, context: Any) -> Any:
        asked = {**selected(request.points_selector), "keys": list(request.keys)}
        return self._update(request, "delete_payload", asked)

    def ClearPayload(self, request: Any, context: Any) -> Any:
        return self._update(request, "clear_payload", selected(request.points))

    def UpdateBatch(self, request: Any, context: Any) -> Any:
        operations = [plain(GrpcToRest.convert_points_update_operation(part)) for part in request.operations]
        results = self._backend[request.collection_name].update(operations, request.wait)
        return proto.UpdateBatchResponse(result=[update_result(result) for result in results])

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        schema = fields(
            request,
            field_type=lambda kind: GrpcToRest.convert_payload_schema_type(grpc_field_type_to_payload_schema(kind)),
            field_index_params=GrpcToRest.convert_payload_schema_params,
        )
        asked = {"field_name": request.field_name}
        asked["field_schema"] = schema.get("field_index_params") or schema.get("field_type")
        return updated(self._backend[request.collection_name].create_index(asked))

    def DeleteFieldIndex(self, request: Any, context: Any) -> Any:
        return updated(self._backend[request.collection_name].delete_index(request.field_name))

    def CreateVectorName(self, request: Any, context: Any) -> Any:
        asked = fields(request, dense_config=_dense_config, sparse_config=_sparse_config)
        config = {name.removesuffix("_config"): value for name, value in asked.items()}
        return updated(self._backend[request.collection_name].create_vector(request.vector_name, config))

    def DeleteVectorName(self, request: Any, context: Any) -> Any:
        return updated(self._backend[request.collection_name].delete_vector(request.vector_name))

    def Get(self, request: Any, context: Any) -> Any:
        asked = {**_read(request), "ids": _ids(request.ids)}
        found = self._backend[request.collection_name].retrieve(asked)
        return proto.GetResponse(result=[record(point) for point in found])

    def Scroll(self, request: Any, context: Any) -> Any:
        asked = fields(request, **_FILTER, limit=same, offset=GrpcToRest.convert_point_id)
        if request.HasField("order_by"):
            asked["order_by"] = plain(GrpcToRest.convert_order_by(request.order_by))
        found = self._backend[request.collection_name].scroll({**_read(request), **asked})
        following = found["next_page_offset"]
        offset = None if following is None else RestToGrpc.convert_extended_point_id(following)
        return proto.ScrollResponse(result=[record(point) for point in found["points"]], next_page_offset=offset)

    def Count(self, request: Any, context: Any) -> Any:
        found = self._backend[request.collection_name].count(fields(request, **_FILTER))
        return proto.CountResponse(result=proto.CountResult(**found))

    def Query(self, request: Any, context: Any) -> Any:
        found = self._backend[request.collection_name].query([plain(GrpcToRest.convert_query_points(request))])
        return proto.QueryResponse(result=scored(found[0]["points"]))

    def QueryBatch(self, request: Any, context: Any) -> Any:
        asked = [plain(GrpcToRest.convert_query_points(query)) for query in request.query_points]
        found = self._backend[request.collection_name].query(asked)
        return proto.QueryBatchResponse(result=[proto.BatchResult(result=scored(answer["points"])) for answer in found])

    def _update(self, request: Any, kind: str, body: dict[str, Any]) -> Any:
        fields(request)  # refuses shard keys
        return updated(self._backend[request.collection_name].update([{kind: body}], request.wait)[0])


def _points(request: Any, convert: Callable[[Any], Any]) -> list[Any]:
    return [plain(convert(point)) for point in request.points]


def _ids(ids: Any) -> list[int | str]:
    return [GrpcToRest.convert_point_id(i) for i in ids]


def _read(request: Any) -> dict[str, Any]:
    asked = fields(request, **_READ)
    if "with_vectors" in asked:
        asked["with_vector"] = asked.pop("with_vectors")
    return asked


def _payload(request: Any) -> dict[str, Any]:
    payload = GrpcToRest.convert_payload(request.payload)
    return {**selected(request.points_selector), **fields(request, key=same), "payload": payload}


def _dense_config(config: Any) -> dict[str, Any]:
    options = fields(
        config, multivector_config=GrpcToRest.convert_multivector_config, datatype=GrpcToRest.convert_datatype
    )
    return {"size": config.size, "distance": plain(GrpcToRest.convert_distance(config.distance)), **options}


def _sparse_config(config: Any) -> dict[str, Any]:
    return fields(config, modifier=GrpcToRest.convert_modifier, datatype=GrpcToRest.convert_datatype)
