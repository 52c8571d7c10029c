"""Filters in Qdrant's terms.

The embedded engine compares no booleans (it takes True for 1), so a point carries them once more as texts, in the
payload under `flags`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from m3core import InvalidInput
from m3stores.filters import And, Equals, Exists, Expression, Not, Or, Range, Scalar

if TYPE_CHECKING:
    import qdrant_edge

_MOST_EXACT = 2**53  # beyond it, a float may stand for several whole numbers


def flags(metadata: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """The booleans in metadata, each as a text of its place and value."""
    for key, value in metadata.items():
        place = (*path, key)
        if isinstance(value, Mapping):
            yield from flags(value, place)
        else:
            for item in value if isinstance(value, list | tuple) else (value,):
                if isinstance(item, bool):
                    yield _flag(place, item)


def _flag(path: tuple[str, ...], value: bool) -> str:
    return json.dumps([*path, value], ensure_ascii=False)


def edge_filter(expression: Expression) -> "qdrant_edge.Filter":
    """The filter for the embedded engine.

    Raises:
        InvalidInput: a key that a path in Qdrant cannot spell.
    """
    from qdrant_edge import Filter

    return Filter(must=[_condition(expression)])


def _condition(expression: Expression) -> Any:
    from qdrant_edge import Filter

    match expression:
        case And():
            return Filter(must=[_condition(part) for part in expression.parts])
        case Or():
            return Filter(should=[_condition(part) for part in expression.parts])
        case Not():
            return Filter(must_not=[_condition(expression.part)])
        case Exists():
            return Filter(should=[Filter(must_not=[_field(path, is_empty=True)]) for path in _paths(expression.key)])
        case Range():
            return Filter(should=[_range(path, expression) for path in _paths(expression.key)])
        case Equals():
            return Filter(should=[part for path in _paths(expression.key) for part in _equals(path, expression.values)])


def _paths(key: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Where the field of a key may be: nested, or under a name with dots in it."""
    return [key] if len(key) == 1 else [key, (".".join(key),)]


def _range(path: tuple[str, ...], expression: Range) -> Any:
    from qdrant_edge import RangeFloat

    bounds = RangeFloat(gt=expression.above, gte=expression.least, lt=expression.below, lte=expression.most)
    return _field(path, range=bounds)


def _equals(path: tuple[str, ...], values: tuple[Scalar, ...]) -> list[Any]:
    from qdrant_edge import FieldCondition, MatchAny, MatchValue, RangeFloat

    texts = [value for value in values if isinstance(value, str)]
    booleans = [value for value in values if isinstance(value, bool)]
    conditions = [_field(path, match=MatchAny(texts))]  # with no texts it matches nothing
    if booleans:
        conditions.append(FieldCondition("flags", match=MatchAny([_flag(path, value) for value in booleans])))
    for value in values:
        if isinstance(value, str | bool):
            continue
        if isinstance(value, int) and abs(value) > _MOST_EXACT:
            conditions.append(_field(path, match=MatchValue(value)))
        else:
            conditions.append(_field(path, range=RangeFloat(gte=float(value), lte=float(value))))
    return conditions


def _field(path: tuple[str, ...], **condition: Any) -> Any:
    from qdrant_edge import FieldCondition

    spelled = ".".join(["metadata", *(f'"{part}"' for part in path)])
    try:
        return FieldCondition(spelled, **condition)
    except ValueError as error:
        raise InvalidInput(f"Qdrant cannot filter by the key {'.'.join(path)!r}: {error}") from error
