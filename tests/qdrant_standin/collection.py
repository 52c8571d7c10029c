"""One collection: a shard of the embedded engine, and what only a server knows about it.

What comes in and goes out are the JSON values of Qdrant's HTTP interface. An operation's request is checked as a whole
first; only then does it reach the shard.
"""

import copy
import threading
from collections.abc import Callable, Iterable
from itertools import dropwhile
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from qdrant_standin.config import add_space, described, drop_space, edge_config, patched, spaces
from qdrant_standin.filters import edge_filter
from qdrant_standin.points import check_points, edge_point, edge_vectors, listed, point_id
from qdrant_standin.queries import edge_request, limit_of, plain_point, with_payload, with_vector
from qdrant_standin.refusals import Refusal, bad_format, engine, invalid, unsupported

_MODES = {
    "upsert": edge.UpdateMode.Upsert,
    "insert_only": edge.UpdateMode.InsertOnly,
    "update_only": edge.UpdateMode.UpdateOnly,
}
_PAGE = 1000


class Collection:
    """All its methods may be called from any thread.

    Attributes:
        reports: what `info` will say, one after the other, of the status and of the optimizers; green and ok when there
            are no more. Grey is said until an update of the optimizers' configuration wakes them.
    """

    def __init__(self, request: dict[str, Any], folder: Path) -> None:
        self.config = described(request)
        self._shard = engine(edge.EdgeShard.create, str(folder), edge_config(self.config))
        self._lock = threading.Lock()
        self._indexes: dict[str, dict[str, Any]] = {}
        self._operations = 0
        self.reports: list[tuple[str, Any]] = []

    def close(self) -> None:
        with self._lock:
            self._shard.close()

    def info(self) -> dict[str, Any]:
        with self._lock:
            found = self._shard.info()
            points = self._shard.count(edge.CountRequest())
            config = copy.deepcopy(self.config)
            schema = {name: {**index, "points": self._indexed(name)} for name, index in self._indexes.items()}
            status, optimizers = self._report()
        return {
            "status": status,
            "optimizer_status": optimizers,
            "points_count": points,
            "indexed_vectors_count": found.indexed_vectors_count,
            "segments_count": found.segments_count,
            "config": config,
            "payload_schema": schema,
        }

    def patch(self, request: dict[str, Any]) -> None:
        with self._lock:
            self.config = patched(self.config, request)
            if request.get("optimizers_config") is not None:
                self.reports = list(dropwhile(lambda report: report[0] == "grey", self.reports))

    def _report(self) -> tuple[str, Any]:
        if not self.reports:
            return "green", "ok"
        return self.reports[0] if self.reports[0][0] == "grey" else self.reports.pop(0)

    def create_vector(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            engine(self._shard.update, add_space(self.config, name, request))
            return self._done()

    def delete_vector(self, name: str) -> dict[str, Any]:
        with self._lock:
            engine(self._shard.update, drop_space(self.config, name))
            return self._done()

    def create_index(self, request: dict[str, Any]) -> dict[str, Any]:
        name, schema = request["field_name"], request.get("field_schema")
        if schema is None:
            raise unsupported("index whose type is to be found out")
        index = {"data_type": schema} if isinstance(schema, str) else {"data_type": schema["type"], "params": schema}
        kind = getattr(edge.PayloadSchemaType, index["data_type"].capitalize())
        with self._lock:
            engine(self._shard.update, edge.UpdateOperation.create_field_index(name, kind))
            self._indexes[name] = index
            return self._done()

    def delete_index(self, name: str) -> dict[str, Any]:
        with self._lock:
            engine(self._shard.update, edge.UpdateOperation.delete_field_index(name))
            self._indexes.pop(name, None)
            return self._done()

    def update(self, operations: Iterable[dict[str, Any]], wait: bool) -> list[dict[str, Any]]:
        """Applies operations in order, each like `{"upsert": {...}}`.

        Who does not wait does not learn of what goes wrong after the request was read: a wrong dimension, say.
        """
        named = [next(iter(operation.items())) for operation in operations]
        for kind, body in named:
            _check(kind, body)
        results = []
        with self._lock:
            for kind, body in named:
                try:
                    _APPLY[kind](self, body)
                except Refusal as refusal:
                    if wait or refusal.status == 501:
                        raise
                results.append(self._done("completed" if wait else "acknowledged"))
        return results

    def retrieve(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        ids = [point_id(i) for i in request["ids"]]
        payload, vector = with_payload(request.get("with_payload"), True), with_vector(request.get("with_vector"))
        with self._lock:
            return [plain_point(point) for point in engine(self._shard.retrieve, ids, payload, vector)]

    def scroll(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("order_by") is not None:
            raise unsupported("order_by")
        offset = request.get("offset")
        asked = edge.ScrollRequest(
            offset=None if offset is None else point_id(offset),
            limit=limit_of(request),
            filter=edge_filter(request.get("filter")),
            with_payload=with_payload(request.get("with_payload"), True),
            with_vector=with_vector(request.get("with_vector")),
        )
        with self._lock:
            points, following = engine(self._shard.scroll, asked)
        shown = following if following is None or isinstance(following, int) else str(following)
        return {"points": [plain_point(point) for point in points], "next_page_offset": shown}

    def count(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = edge.CountRequest(filter=edge_filter(request.get("filter")))
        with self._lock:
            return {"count": engine(self._shard.count, asked)}

    def query(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        asked = [edge_request(request) for request in requests]
        with self._lock:
            answers = engine(self._shard.query_batch, edge.QueryBatchRequest(asked))
        return [{"points": [plain_point(point) for point in points]} for points in answers]

    def _upsert(self, body: dict[str, Any]) -> None:
        known = spaces(self.config)
        points = [edge_point(point, known) for point in listed(body)]
        condition, mode = edge_filter(body.get("update_filter")), _MODES[body.get("update_mode") or "upsert"]
        self._apply(edge.UpdateOperation.upsert_points(points, condition=condition, update_mode=mode))

    def _update_vectors(self, body: dict[str, Any]) -> None:
        known = spaces(self.config)
        points = [edge.PointVectors(point_id(p["id"]), edge_vectors(p["vector"], known)) for p in body["points"]]
        self._apply(edge.UpdateOperation.update_vectors(points, condition=edge_filter(body.get("update_filter"))))

    def _delete(self, body: dict[str, Any]) -> None:
        self._apply(edge.UpdateOperation.delete_points(self._ids(body)))

    def _delete_vectors(self, body: dict[str, Any]) -> None:
        self._apply(edge.UpdateOperation.delete_vectors(self._ids(body), body["vector"]))

    def _set_payload(self, body: dict[str, Any]) -> None:
        self._apply(edge.UpdateOperation.set_payload(self._ids(body), body["payload"], body.get("key")))

    def _overwrite_payload(self, body: dict[str, Any]) -> None:
        self._apply(edge.UpdateOperation.overwrite_payload(self._ids(body), body["payload"]))

    def _delete_payload(self, body: dict[str, Any]) -> None:
        self._apply(edge.UpdateOperation.delete_payload(self._ids(body), body["keys"]))

    def _clear_payload(self, body: dict[str, Any]) -> None:
        self._apply(edge.UpdateOperation.clear_payload(self._ids(body)))

    def _apply(self, operation: edge.UpdateOperation) -> None:
        engine(self._shard.update, operation)

    def _ids(self, selector: dict[str, Any]) -> list[int | str]:
        """The selected points; a filter is looked up first, so that the engine deals with ids alone."""
        if selector.get("points") is not None:
            return [point_id(i) for i in selector["points"]]
        found: list[int | str] = []
        offset, filter = None, edge_filter(selector["filter"])
        while True:
            asked = edge.ScrollRequest(offset=offset, limit=_PAGE, filter=filter, with_payload=False, with_vector=False)
            points, offset = engine(self._shard.scroll, asked)
            found += [point.id for point in points]
            if offset is None:
                return found

    def _indexed(self, name: str) -> int:
        """How many points have a value under a path."""
        empty = edge.Filter(must_not=[edge.IsEmptyCondition(name)])
        return engine(self._shard.count, edge.CountRequest(filter=empty))

    def _done(self, status: str = "completed") -> dict[str, Any]:
        self._operations += 1
        return {"operation_id": self._operations, "status": status}


_APPLY: dict[str, Callable[[Collection, dict[str, Any]], None]] = {
    "upsert": Collection._upsert,
    "delete": Collection._delete,
    "update_vectors": Collection._update_vectors,
    "delete_vectors": Collection._delete_vectors,
    "set_payload": Collection._set_payload,
    "overwrite_payload": Collection._overwrite_payload,
    "delete_payload": Collection._delete_payload,
    "clear_payload": Collection._clear_payload,
}


def _check(kind: str, body: dict[str, Any]) -> None:
    """What a server checks of an operation before it looks at the collection."""
    if body.get("shard_key") is not None:
        raise unsupported("shard keys")
    edge_filter(body.get("filter"))
    edge_filter(body.get("update_filter"))
    if kind == "upsert":
        check_points(listed(body))
    elif kind == "update_vectors":
        check_points(body["points"])
        if any(not point["vector"] for point in body["points"]):
            raise invalid("points.vector", "must specify vectors to update for point")
    elif body.get("points") is None and body.get("filter") is None:
        raise bad_format("either points or a filter must be given")
    else:
        for i in body.get("points") or []:
            point_id(i)
