"""Filters in Chroma's terms.

Chroma has no `$not`, so that goes down to the conditions, and only equality has an opposite: `$ne`, `$nin` and
`$not_contains` are met by what is missing or of another type too. Lists know `$contains` alone. Texts, booleans and
whole numbers too long for a float are looked for in the user's own fields, all else in the helper fields that
`m3stores.chroma.metadata` writes. Records without these are not found as they should be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from m3core import InvalidInput
from m3stores.chroma.metadata import (
    LIST,
    MOST_EXACT,
    NUMBERS,
    SINGLE,
    SINGLE_NUMBER,
    check_key,
    kind,
    largest,
    order,
    rank,
    smallest,
)
from m3stores.filters import And, Exists, Expression, Not, Or, Range, Scalar

_Conditions = dict[str, Any]

_MOST_CONDITIONS = 900  # SQLite refuses 985; a server that is asked 5000 dies of it
_NEVER: _Conditions = {"$and": [{"-": {"$in": [""]}}, {"-": {"$nin": [""]}}]}
_BOUNDS = {"above": "$gt", "least": "$gte", "below": "$lt", "most": "$lte"}
_OPPOSITE = {
    "$and": "$or",
    "$or": "$and",
    "$in": "$nin",
    "$contains": "$not_contains",
    "$gt": "$lte",
    "$gte": "$lt",
    "$lt": "$gte",
    "$lte": "$gt",
}


@dataclass(frozen=True)
class Where:
    """A filter in Chroma's own terms.

    Attributes:
        where: of the metadata.
        document: of the text.
        ids: of the records.
    """

    where: dict[str, Any] | None = None
    document: dict[str, Any] | None = None
    ids: tuple[str, ...] | None = None

    def within(self, ids: Sequence[str]) -> "Where":
        """This filter, of records of these ids."""
        held = None if self.ids is None else set(self.ids)
        return replace(self, ids=tuple(i for i in dict.fromkeys(ids) if held is None or i in held))


def where_arguments(filter: Where | None) -> dict[str, Any]:
    """Of Chroma's methods, but for ids; none is met by every record."""
    return {} if filter is None else {"where": filter.where, "where_document": filter.document}


def chroma_where(expression: Expression) -> _Conditions | None:
    """The filter for Chroma's `where`; `None` is met by every record.

    Raises:
        InvalidInput: a key that no record in Chroma can have, or more conditions than it takes.
    """
    where = _where(expression, True)
    if isinstance(where, bool):
        return None if where else _NEVER
    number = sum(1 for _ in _conditions(where))
    if number > _MOST_CONDITIONS:
        raise InvalidInput(
            f"this filter comes to {number} conditions, and Chroma takes {_MOST_CONDITIONS}: ask for fewer values at a "
            "time (each in $in or $nin is a condition, because the field may be a list)"
        )
    return where


def needs_helpers(expression: Expression) -> bool:
    """Whether it goes wrong on records that others wrote, without the helper fields: if it asks anything at all.

    What is looked for in the user's own fields may be in a list, and only a helper field tells whether there is one.
    """
    return not isinstance(_where(expression, True), bool)


def _where(expression: Expression, wanted: bool) -> _Conditions | bool:
    """The filter for records that meet the expression, or for those that do not; `True` is all, `False` none."""
    match expression:
        case Not():
            return _where(expression.part, not wanted)
        case And():
            return _joined("$and" if wanted else "$or", [_where(part, wanted) for part in expression.parts])
        case Or():
            return _joined("$or" if wanted else "$and", [_where(part, wanted) for part in expression.parts])
    key = ".".join(expression.key)
    check_key(key)
    match expression:
        case Exists():
            exists = _is(key, SINGLE_NUMBER, SINGLE, NUMBERS, LIST)
            return exists if wanted else _opposite(exists)
        case Range():
            return _range(key, expression, wanted)
    equals = _equals(key, expression.values)
    return equals if wanted else _opposite(equals)


def _joined(operator: str, parts: Sequence[_Conditions | bool]) -> _Conditions | bool:
    """The parts under `$and` or `$or`, of which Chroma wants at least two."""
    neutral = operator == "$and"
    joined: list[_Conditions] = []
    for part in parts:
        if not isinstance(part, bool):
            joined += part.get(operator, [part])
        elif part is not neutral:
            return part
    if not joined:
        return neutral
    return joined[0] if len(joined) == 1 else {operator: joined}


def _is(key: str, *kinds: str) -> _Conditions:
    return {kind(key): {"$in": list(kinds)}}


def _range(key: str, expression: Range, wanted: bool) -> _Conditions | bool:
    bounds = [(name, bound) for name in _BOUNDS if (bound := getattr(expression, name)) is not None]
    if len(bounds) != 1:
        raise InvalidInput(f"with Chroma a range has one bound; join two for {key!r} with And")
    [(name, bound)] = bounds
    operator = _BOUNDS[name] if wanted else _OPPOSITE[_BOUNDS[name]]
    of_list = largest(key) if name in ("above", "least") else smallest(key)
    numbers: list[_Conditions | bool] = [{field: {operator: order(bound)}} for field in (rank(key), of_list)]
    return _joined("$or", numbers if wanted else [*numbers, _opposite(_is(key, SINGLE_NUMBER, NUMBERS))])


def _equals(key: str, values: Sequence[Scalar]) -> _Conditions | bool:
    single: dict[tuple[str, type], list[Scalar]] = {}  # Chroma wants one type in each $in
    for value in values:
        if isinstance(value, str | bool) or (isinstance(value, int) and abs(value) > MOST_EXACT):
            single.setdefault((key, type(value)), []).append(value)
        else:
            single.setdefault((rank(key), int), []).append(order(value))
    among = [{field: {"$in": group}} for (field, _), group in single.items()]
    listed = [{field: {"$contains": value}} for (field, _), group in single.items() for value in group]
    return _joined("$or", [*among, _joined("$and", [_is(key, NUMBERS, LIST), _joined("$or", listed)])])


def _opposite(where: _Conditions | bool) -> _Conditions | bool:
    """What meets all that a filter for equality does not."""
    if isinstance(where, bool):
        return not where
    [(name, inside)] = where.items()
    if isinstance(inside, list):
        return _joined(_OPPOSITE[name], [_opposite(part) for part in inside])
    [(operator, operand)] = inside.items()
    return {name: {_OPPOSITE[operator]: operand}}


def _conditions(where: _Conditions) -> Iterator[str]:
    """The fields that a filter asks, each as often as it does."""
    for name, inside in where.items():
        if isinstance(inside, list):
            for part in inside:
                yield from _conditions(part)
        else:
            yield name
