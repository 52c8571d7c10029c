"""Filters in Qdrant's terms, for the embedded engine and for servers, whose clients have classes of their own."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from m3core import InvalidInput
from m3stores.filters import And, Equals, Exists, Expression, Not, Or, Range, Scalar
from m3stores.qdrant.layout import OURS, Layout

_MOST_EXACT = 2**53  # beyond it, a float may stand for several whole numbers
Path = tuple[str, ...]
Bound = float | None


class Dialect(Protocol):
    """The classes that a client has for filters."""

    def filter(self, must: list[Any], should: list[Any], must_not: list[Any]) -> Any:
        """All of `must`, one of `should` if there are any, none of `must_not`."""

    def nothing(self) -> Any:
        """Matches no point."""

    def empty(self, path: Path) -> Any:
        """The field is missing, null or an empty list."""

    def range(self, path: Path, above: Bound, least: Bound, below: Bound, most: Bound) -> Any:
        """The field is a number, or has one, within the bounds."""

    def texts(self, path: Path, values: list[str]) -> Any:
        """The field is one of the texts, or has one of them."""

    def integer(self, path: Path, value: int) -> Any:
        """The field is this whole number, or has it."""

    def boolean(self, path: Path, value: bool) -> Any:
        """The field is this boolean, or has it."""


def qdrant_filter(expression: Expression, dialect: Dialect) -> Any:
    """The filter in a client's classes.

    Raises:
        InvalidInput: a key that a path in Qdrant cannot spell.
    """
    return dialect.filter([_condition(expression, dialect)], [], [])


def _condition(expression: Expression, to: Dialect) -> Any:
    match expression:
        case And():
            return to.filter([_condition(part, to) for part in expression.parts], [], [])
        case Or():
            return to.filter([], [_condition(part, to) for part in expression.parts], [])
        case Not():
            return to.filter([], [], [_condition(expression.part, to)])
        case Exists():
            return to.filter([], [to.filter([], [], [to.empty(path)]) for path in _paths(expression.key)], [])
        case Range(key, above, least, below, most):
            return to.filter([], [to.range(path, above, least, below, most) for path in _paths(key)], [])
        case Equals():
            matches = [part for path in _paths(expression.key) for part in _equals(path, expression.values, to)]
            return to.filter([], matches, []) if matches else to.nothing()


def _paths(key: Path) -> list[Path]:
    """Where the field of a key may be: nested, or under a name with dots in it."""
    return [key] if len(key) == 1 else [key, (".".join(key),)]


def _equals(path: Path, values: tuple[Scalar, ...], to: Dialect) -> Iterator[Any]:
    if texts := [value for value in values if isinstance(value, str)]:
        yield to.texts(path, texts)
    for value in values:
        if isinstance(value, bool):
            yield to.boolean(path, value)
        elif isinstance(value, int) and abs(value) > _MOST_EXACT:
            yield to.integer(path, value)
        elif not isinstance(value, str):
            yield to.range(path, None, float(value), None, float(value))


class EdgeDialect:
    """Of `qdrant_edge`. See `Dialect`."""

    def filter(self, must: list[Any], should: list[Any], must_not: list[Any]) -> Any:
        from qdrant_edge import Filter

        return Filter(must=must or None, should=should or None, must_not=must_not or None)

    def nothing(self) -> Any:
        from qdrant_edge import HasIdCondition

        return HasIdCondition(set())

    def empty(self, path: Path) -> Any:
        return self._field(path, is_empty=True)

    def range(self, path: Path, above: Bound, least: Bound, below: Bound, most: Bound) -> Any:
        from qdrant_edge import RangeFloat

        return self._field(path, range=RangeFloat(gt=above, gte=least, lt=below, lte=most))

    def texts(self, path: Path, values: list[str]) -> Any:
        from qdrant_edge import MatchAny

        return self._field(path, match=MatchAny(values))

    def integer(self, path: Path, value: int) -> Any:
        from qdrant_edge import MatchValue

        return self._field(path, match=MatchValue(value))

    def boolean(self, path: Path, value: bool) -> Any:
        from qdrant_edge import MatchValue

        boolean: Any = np.bool_(value)  # Python's own is taken for a whole number
        return self._field(path, match=MatchValue(boolean))

    def _field(self, path: Path, **condition: Any) -> Any:
        from qdrant_edge import FieldCondition

        try:
            return FieldCondition(OURS.metadata_path(path), **condition)
        except ValueError as error:
            raise InvalidInput(f"Qdrant cannot filter by the key {'.'.join(path)!r}: {error}") from error


class ServerDialect:
    """Of `qdrant_client.models`. See `Dialect`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def filter(self, must: list[Any], should: list[Any], must_not: list[Any]) -> Any:
        from qdrant_client import models

        return models.Filter(must=must or None, should=should or None, must_not=must_not or None)

    def nothing(self) -> Any:
        from qdrant_client import models

        return models.HasIdCondition(has_id=[])

    def empty(self, path: Path) -> Any:
        from qdrant_client import models

        return models.IsEmptyCondition(is_empty=models.PayloadField(key=self._spelled(path)))

    def range(self, path: Path, above: Bound, least: Bound, below: Bound, most: Bound) -> Any:
        from qdrant_client import models

        bounds = models.Range(gt=above, gte=least, lt=below, lte=most)
        return models.FieldCondition(key=self._spelled(path), range=bounds)

    def texts(self, path: Path, values: list[str]) -> Any:
        from qdrant_client import models

        return models.FieldCondition(key=self._spelled(path), match=models.MatchAny(any=values))

    def integer(self, path: Path, value: int) -> Any:
        return self._value(path, value)

    def boolean(self, path: Path, value: bool) -> Any:
        return self._value(path, value)

    def _value(self, path: Path, value: int) -> Any:
        from qdrant_client import models

        return models.FieldCondition(key=self._spelled(path), match=models.MatchValue(value=value))

    def _spelled(self, path: Path) -> str:
        for part in path:
            if not part or '"' in part or "\\" in part:
                raise InvalidInput(f"Qdrant cannot filter by the key {'.'.join(path)!r}: it is empty or has quotes")
        return self._layout.metadata_path(path)
