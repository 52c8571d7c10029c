"""Metadata filters: one small Mongo-like dict for every store, parsed into a tree that each store translates.

    {"side": "pro"}                                     the same as {"side": {"$eq": "pro"}}
    {"side": "pro", "year": {"$gte": 2020}}             every key must hold
    {"$or": [{"kind": "evidence"}, {"tags": {"$contains": "law"}}]}

A key names a metadata field; dots go into nested objects (`"source.year"`), or belong to the name, if there is a field
so called. Where a field holds a list of texts, numbers or booleans, a condition holds when it holds for one of them. A
field that is missing, null or an empty list meets no condition but `$ne`, `$nin` and `{"$exists": false}`. Numbers
compare as 64-bit floats, but only that whole number itself is equal to one beyond 2^53. Booleans are no numbers.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from m3core import InvalidInput

Scalar = str | bool | int | float


@dataclass(frozen=True)
class Equals:
    """The field is one of `values`, or is a list with one of them in it. Numbers compare by value, booleans apart."""

    key: tuple[str, ...]
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Range:
    """The field is a number within the bounds; `None` is no bound."""

    key: tuple[str, ...]
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Exists:
    """The field has a value: it is not missing, null or an empty list."""

    key: tuple[str, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: "Expression"


@dataclass(frozen=True)
class And:
    """All parts hold; with none, always."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True)
class Or:
    """At least one part holds."""

    parts: tuple["Expression", ...]


Expression = Equals | Range | Exists | Not | And | Or

_DEEPEST = 16
_LARGEST = 2**63
_BOUNDS = {"$gt": "above", "$gte": "least", "$lt": "below", "$lte": "most"}
_OPERATORS = ("$eq", "$ne", *_BOUNDS, "$in", "$nin", "$contains", "$exists")


def parse(filter: Mapping[str, object]) -> Expression:
    """The tree of a filter.

    Operators: `$eq $ne $gt $gte $lt $lte $in $nin $contains $exists` on a field, `$and $or $not` around filters.

    Raises:
        InvalidInput: an unknown operator or a value that it does not take; the message names both.
    """
    return _parse(filter, 0)


def keys(expression: Expression) -> Iterator[tuple[str, ...]]:
    """The fields that a filter asks, each as often as it does."""
    match expression:
        case Not():
            yield from keys(expression.part)
        case And() | Or():
            for part in expression.parts:
                yield from keys(part)
        case _:
            yield expression.key


def _parse(filter: Mapping[str, object], depth: int) -> Expression:
    if not isinstance(filter, Mapping):
        raise InvalidInput(f"a filter is a dict such as {{'side': 'pro'}}, not {filter!r}")
    if depth > _DEEPEST:
        raise InvalidInput(f"a filter may be nested {_DEEPEST} levels deep; say the same with fewer")
    parts = [_part(key, value, depth) for key, value in filter.items()]
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _part(key: str, value: object, depth: int) -> Expression:
    if not isinstance(key, str) or not key:
        raise InvalidInput(f"the keys of a filter are names of metadata fields, not {key!r}")
    match key:
        case "$and":
            return And(_filters(key, value, depth))
        case "$or":
            return Or(_filters(key, value, depth))
        case "$not":
            if not isinstance(value, Mapping):
                raise InvalidInput(f"$not takes a filter, not {value!r}")
            return Not(_parse(value, depth + 1))
    if key.startswith("$"):
        raise InvalidInput(f"unknown operator {key!r} in a filter; around filters there are $and, $or and $not")
    path = tuple(key.split("."))
    if not isinstance(value, Mapping):
        return _condition(path, "$eq", value)
    if not value:
        raise InvalidInput(
            f"the filter of {key!r} is an empty dict; say what it should be, such as {{'$exists': True}}"
        )
    parts = [_condition(path, operator, operand) for operator, operand in value.items()]
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _filters(operator: str, value: object, depth: int) -> tuple[Expression, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise InvalidInput(f"{operator} takes a list of at least one filter, not {value!r}")
    return tuple(_parse(part, depth + 1) for part in value)


def _condition(key: tuple[str, ...], operator: str, operand: object) -> Expression:
    name = ".".join(key)
    match operator:
        case "$eq" | "$contains":
            return Equals(key, (_scalar(name, operator, operand),))
        case "$ne":
            return Not(Equals(key, (_scalar(name, operator, operand),)))
        case "$in" | "$nin":
            if isinstance(operand, str) or not isinstance(operand, Sequence):
                raise InvalidInput(f"{operator} of {name!r} takes a list, not {operand!r}")
            values = (_scalar(name, operator, item) for item in operand)
            among = Equals(key, tuple({(type(value), value): value for value in values}.values()))  # each but once
            return among if operator == "$in" else Not(among)
        case "$exists":
            if not isinstance(operand, bool):
                raise InvalidInput(f"$exists of {name!r} takes True or False, not {operand!r}")
            return Exists(key) if operand else Not(Exists(key))
    if operator not in _BOUNDS:
        raise InvalidInput(f"unknown operator {operator!r} for {name!r} in a filter; there are {', '.join(_OPERATORS)}")
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        raise InvalidInput(f"{operator} of {name!r} takes a finite number, not {operand!r}")
    _check_size(name, operator, operand)
    return Range(key, **{_BOUNDS[operator]: float(operand)})


def _scalar(name: str, operator: str, value: object) -> Scalar:
    if value is None:
        raise InvalidInput(f"{operator} of {name!r} takes no None; ask for {{'$exists': False}} instead")
    if not isinstance(value, str | bool | int | float):
        raise InvalidInput(f"{operator} of {name!r} takes a text, a number, True or False, not {value!r}")
    if isinstance(value, int | float):
        _check_size(name, operator, value)
    return value


def _check_size(name: str, operator: str, value: float) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{operator} of {name!r} takes a finite number, not {value!r}")
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise InvalidInput(f"{operator} of {name!r} takes a number of 64 bits, which {value} is not")
