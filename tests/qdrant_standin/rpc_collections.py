"""gRPC's service for collections. Its methods have the service's names."""
# ruff: noqa: N802

from typing import Any

from qdrant_client import grpc as proto
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from qdrant_standin.backend import Backend
from qdrant_standin.rpc_wire import fields, plain, same

_CONFIG = {
    "hnsw_config": GrpcToRest.convert_hnsw_config_diff,
    "optimizers_config": GrpcToRest.convert_optimizers_config_diff,
    "strict_mode_config": GrpcToRest.convert_strict_mode_config,
}


class Collections(proto.CollectionsServicer):
    """Each method makes the JSON of the request, asks the backend, and makes a message of the answer."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def Get(self, request: Any, context: Any) -> Any:
        info = models.CollectionInfo.model_validate(self._backend[request.collection_name].info())
        return proto.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def List(self, request: Any, context: Any) -> Any:
        names = self._backend.names()
        return proto.ListCollectionsResponse(collections=[proto.CollectionDescription(name=name) for name in names])

    def CollectionExists(self, request: Any, context: Any) -> Any:
        exists = self._backend.exists(request.collection_name)
        return proto.CollectionExistsResponse(result=proto.CollectionExists(exists=exists))

    def Create(self, request: Any, context: Any) -> Any:
        asked = fields(
            request,
            **_CONFIG,
            vectors_config=GrpcToRest.convert_vectors_config,
            sparse_vectors_config=GrpcToRest.convert_sparse_vector_config,
            wal_config=GrpcToRest.convert_wal_config_diff,
            quantization_config=GrpcToRest.convert_quantization_config,
            sharding_method=GrpcToRest.convert_sharding_method,
            payload=GrpcToRest.convert_payload_storage_params,
            shard_number=same,
            replication_factor=same,
            write_consistency_factor=same,
            on_disk_payload=same,
        )
        return self._done(self._backend.create(request.collection_name, _named(asked, request)))

    def Update(self, request: Any, context: Any) -> Any:
        asked = fields(
            request,
            **_CONFIG,
            vectors_config=GrpcToRest.convert_vectors_config_diff,
            sparse_vectors_config=GrpcToRest.convert_sparse_vector_config,
            quantization_config=GrpcToRest.convert_quantization_config_diff,
            params=GrpcToRest.convert_collection_params_diff,
        )
        self._backend[request.collection_name].patch(_named(asked, request))
        return self._done(True)

    def Delete(self, request: Any, context: Any) -> Any:
        return self._done(self._backend.delete(request.collection_name))

    def UpdateAliases(self, request: Any, context: Any) -> Any:
        actions = [plain(GrpcToRest.convert_alias_operations(action)) for action in request.actions]
        return self._done(self._backend.change_aliases(actions))

    def ListCollectionAliases(self, request: Any, context: Any) -> Any:
        return self._aliases(request.collection_name)

    def ListAliases(self, request: Any, context: Any) -> Any:
        return self._aliases(None)

    def _aliases(self, name: str | None) -> Any:
        found = self._backend.aliases(name)["aliases"]
        return proto.ListAliasesResponse(aliases=[proto.AliasDescription(**alias) for alias in found])

    def _done(self, result: bool) -> Any:
        return proto.CollectionOperationResponse(result=result, time=0.0)


def _named(asked: dict[str, Any], request: Any) -> dict[str, Any]:
    """With HTTP's names for the vectors, and the metadata, which is a map and so never unset."""
    names = {"vectors_config": "vectors", "sparse_vectors_config": "sparse_vectors"}
    named = {names.get(name, name): value for name, value in asked.items()}
    if request.metadata:
        named["metadata"] = GrpcToRest.convert_payload(request.metadata)
    return named
