"""Qdrant's JSON filters as the engine's `Filter`."""

from typing import Any

import numpy as np
import qdrant_edge as edge

from qdrant_standin.points import point_id
from qdrant_standin.refusals import bad_format, unsupported

_MATCHES = {
    "text": edge.MatchText,
    "text_any": edge.MatchTextAny,
    "phrase": edge.MatchPhrase,
    "prefix": edge.MatchPrefix,
    "any": edge.MatchAny,
    "except": edge.MatchExcept,
}


def edge_filter(filter: dict[str, Any] | None) -> edge.Filter | None:
    """The whole tree."""
    if filter is None:
        return None
    try:
        return _tree(filter)
    except (ValueError, TypeError, OverflowError) as error:  # a key that is no path, an integer beyond 64 bits
        raise bad_format(str(error)) from error


def _tree(filter: dict[str, Any]) -> edge.Filter:
    least = filter.get("min_should")
    return edge.Filter(
        must=_conditions(filter.get("must")),
        should=_conditions(filter.get("should")),
        must_not=_conditions(filter.get("must_not")),
        min_should=edge.MinShould(_conditions(least["conditions"]) or [], least["min_count"]) if least else None,
    )


def _conditions(conditions: Any) -> list[Any] | None:
    if not conditions:  # gRPC knows no difference between none and an empty list
        return None
    return [_condition(part) for part in (conditions if isinstance(conditions, list) else [conditions])]


def _condition(condition: dict[str, Any]) -> Any:
    match condition:
        case {"key": key}:
            return edge.FieldCondition(key, **_field(condition))
        case {"is_empty": {"key": key}}:
            return edge.IsEmptyCondition(key)
        case {"is_null": {"key": key}}:
            return edge.IsNullCondition(key)
        case {"has_id": ids}:
            return edge.HasIdCondition({point_id(i) for i in ids})
        case {"has_vector": name}:
            return edge.HasVectorCondition(name)
        case {"nested": {"key": key, "filter": filter}}:
            return edge.NestedCondition(key, _tree(filter))
        case {"slice": _}:
            raise unsupported("slices")
        case _:
            return _tree(condition)


def _field(condition: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in condition.items() if value is not None and name != "key"}
    if unknown := given.keys() - {"match", "range", "values_count", "is_empty", "is_null"}:
        raise unsupported(f"condition {unknown.pop()}")
    if "match" in given:
        given["match"] = _match(given["match"])
    if "range" in given:
        bounds = {name: bound for name, bound in given["range"].items() if bound is not None}
        dated = any(isinstance(bound, str) for bound in bounds.values())
        given["range"] = (edge.RangeDateTime if dated else edge.RangeFloat)(**bounds)
    if "values_count" in given:
        given["values_count"] = edge.ValuesCount(**given["values_count"])
    return given


def _match(match: dict[str, Any]) -> Any:
    if "value" in match:
        value = match["value"]
        # Python's True is an int to the engine's bindings, and matches 1; NumPy's is a boolean.
        return edge.MatchValue(np.bool_(value) if isinstance(value, bool) else value)
    kind, value = next(iter(match.items()))
    return _MATCHES[kind](value)
