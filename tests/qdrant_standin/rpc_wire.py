"""Between gRPC's messages and the JSON values of Qdrant's HTTP interface, by qdrant-client's own conversions."""

from enum import Enum
from typing import Any

from pydantic import BaseModel
from qdrant_client import grpc as proto
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from qdrant_standin.refusals import unsupported


def plain(value: Any) -> Any:
    """A value of the client as JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value


def fields(message: Any, **converters: Any) -> dict[str, Any]:
    """The named fields of a message that are set, each by its converter.

    Raises:
        Refusal: a shard key.
        ValueError: a field that the converter cannot make sense of.
    """
    if "shard_key_selector" in message.DESCRIPTOR.fields_by_name and message.HasField("shard_key_selector"):
        raise unsupported("shard keys")
    set_ones = [name for name in converters if message.HasField(name)]
    return {name: plain(converters[name](getattr(message, name))) for name in set_ones}


def same(value: Any) -> Any:
    """The converter of numbers, texts and booleans."""
    return value


def selected(selector: Any) -> dict[str, Any]:
    """A selector of points: ids or a filter."""
    return plain(GrpcToRest.convert_points_selector(selector))


def record(point: dict[str, Any]) -> Any:
    """A point as `Get` and `Scroll` return it."""
    return RestToGrpc.convert_record(models.Record.model_validate({"payload": {}, **point}))


def scored(points: list[dict[str, Any]]) -> list[Any]:
    """Points as a search returns them."""
    return [RestToGrpc.convert_scored_point(models.ScoredPoint.model_validate(point)) for point in points]


def updated(result: dict[str, Any]) -> Any:
    """What an update answers."""
    return proto.PointsOperationResponse(result=update_result(result), time=0.0)


def update_result(result: dict[str, Any]) -> Any:
    """What one update of a batch answers."""
    return RestToGrpc.convert_update_result(models.UpdateResult.model_validate(result))
