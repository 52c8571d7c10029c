"""Arguments of a store's operations, checked."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from m3core import InvalidInput, Mode
from m3core.checks import check_text
from m3core.output import MODES
from m3stores.engine import Engine
from m3stores.filters import parse

MOST = 2**31 - 1


def checked_ids(ids: Sequence[str]) -> list[str]:
    """Ids as a list.

    Raises:
        InvalidInput: no list of strings.
    """
    wanted = [None] if isinstance(ids, str) or not isinstance(ids, Iterable) else list(ids)
    if not all(isinstance(i, str) for i in wanted):
        raise InvalidInput(f"ids must be a list of strings, not {ids!r}")
    return [check_text(i, "an id") for i in wanted]


def checked_modes(modes: Sequence[Mode]) -> tuple[Mode, ...]:
    """Modes in their order.

    Raises:
        InvalidInput: no list of some of them.
    """
    wanted = [] if isinstance(modes, str) or not isinstance(modes, Iterable) else list(modes)
    if not wanted or not all(mode in MODES for mode in wanted):
        raise InvalidInput(f"modes must be a list of some of {', '.join(map(repr, MODES))}, not {modes!r}")
    return tuple(mode for mode in MODES if mode in wanted)


def whole(value: object, name: str, least: int) -> int:
    """A whole number.

    Raises:
        InvalidInput: something else, or less than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= MOST:
        raise InvalidInput(f"{name} must be a whole number from {least} to {MOST}, not {value!r}")
    return int(value)


def number(value: object, name: str, least: float = -math.inf, most: float = math.inf) -> float | None:
    """A finite number, or `None`.

    Raises:
        InvalidInput: something else, or out of bounds.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise InvalidInput(f"{name} must be a finite number, not {value!r}")
    if not least <= value <= most:
        raise InvalidInput(f"{name} must be between {least} and {most}, not {value!r}")
    return float(value)


def native_filter(engine: Engine, filter: object) -> Any:
    """A user's filter in the engine's terms.

    Raises:
        InvalidInput: neither a filter dict nor one of the engine's own, or a condition that the engine does not have.
    """
    if filter is None or engine.is_native(filter):
        return filter
    if not isinstance(filter, Mapping):
        raise InvalidInput(f"a filter is a dict such as {{'side': 'pro'}}, or the store's own, not {filter!r}")
    return engine.translate(parse(filter))
