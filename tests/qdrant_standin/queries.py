"""Searches: Qdrant's JSON queries in the engine's terms, and its answers in JSON."""

from typing import Any

import qdrant_edge as edge

from qdrant_standin.filters import edge_filter
from qdrant_standin.points import check_vector, edge_query, plain_vectors
from qdrant_standin.refusals import bad_input, invalid, unsupported

_RRF_K = 2  # the server's default
_FUSIONS = {"rrf": lambda: edge.Fusion.Rrf(_RRF_K), "dbsf": edge.Fusion.Dbsf}


def edge_request(query: dict[str, Any]) -> edge.QueryRequest:
    """A query with all that belongs to it."""
    return edge.QueryRequest(
        **_search(query),
        offset=query.get("offset") or 0,
        with_payload=with_payload(query.get("with_payload"), False),
        with_vector=with_vector(query.get("with_vector")),
    )


def with_payload(asked: Any, default: bool) -> Any:
    """What of the payloads to return."""
    if isinstance(asked, dict):
        include = asked.get("include")
        keys = asked["exclude"] if include is None else include
        return (edge.PayloadSelector.Exclude if include is None else edge.PayloadSelector.Include)(keys)
    return default if asked is None else asked


def with_vector(asked: bool | list[str] | None) -> bool | list[str]:
    """Which vectors to return: by default none."""
    return False if asked is None else asked


def limit_of(request: dict[str, Any], default: int = 10) -> int:
    """How many are asked for."""
    limit = request.get("limit")
    if limit is not None and limit < 1:
        raise invalid("limit", f"value {limit} invalid, must be 1 or larger")
    return default if limit is None else limit


def plain_point(point: Any) -> dict[str, Any]:
    """A point of the engine as JSON."""
    shown = {"id": point.id if isinstance(point.id, int) else str(point.id)}
    if isinstance(point, edge.ScoredPoint):
        shown.update(version=point.version, score=point.score)
    if point.payload is not None:
        shown["payload"] = point.payload
    if point.vector is not None:
        shown["vector"] = plain_vectors(point.vector)
    return shown


def _search(query: dict[str, Any]) -> dict[str, Any]:
    """What a query and a prefetch have in common."""
    for field in ("lookup_from", "shard_key"):
        if query.get(field) is not None:
            raise unsupported(field)
    prefetch = query.get("prefetch")
    prefetches = [prefetch] if isinstance(prefetch, dict) else prefetch or []
    return {
        "limit": limit_of(query),
        "query": _query(query.get("query"), query.get("using"), bool(prefetches)),
        "prefetches": [edge.Prefetch(**_search(part)) for part in prefetches],
        "filter": edge_filter(query.get("filter")),
        "score_threshold": query.get("score_threshold"),
        "params": _params(query.get("params")),
    }


def _query(query: Any, using: str | None, fuses: bool) -> Any:
    match query:
        case None:
            return None
        case int() | str():
            raise unsupported("search by the id of a point")
        case {"fusion": kind}:
            fusion = _FUSIONS[kind]()
        case {"rrf": options}:
            fusion = edge.Fusion.Rrf(options.get("k") or _RRF_K, options.get("weights"))
        case {"nearest": vector} if not query.get("mmr") and not isinstance(vector, int | str):
            return _nearest(vector, using)
        case list() | {"indices": _, "values": _}:
            return _nearest(query, using)
        case _:
            raise unsupported(f"query {sorted(query)}")
    if not fuses:
        raise bad_input("Fusion queries require prefetches")
    return fusion


def _nearest(vector: Any, using: str | None) -> edge.Query:
    check_vector(vector, "query")
    return edge.Query.Nearest(edge_query(vector), using=using)


def _params(params: dict[str, Any] | None) -> edge.SearchParams | None:
    """Search is exact anyway; the engine's defaults for the rest change no answer here."""
    return None if params is None else edge.SearchParams(exact=bool(params.get("exact")))
