"""Metadata in Chroma's terms: one level of texts, numbers, booleans and lists of them.

The user's fields are kept under their own names, with helper fields beside them: one with JSON of what Chroma would not
give back as it was, and for each field some that filters ask (see `m3stores.chroma.filters`). They are needed because:

- Chroma may change the last digit of a float, and compares `0.5` with whole numbers as if it were `0`;
- lists cannot be compared with `<` or `>`, and nothing can be asked whether it exists;
- a record may be given the lists of one in a collection that was deleted, under keys that it does not have itself
  (chroma-core/chroma#7594).
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

from m3core import InvalidInput

HELPER = "_m3_chroma_"
"""How the names of all fields begin that are not the user's. A store may keep more of them."""

MOST_EXACT = 2**53
"""Beyond it a float may stand for several whole numbers."""

SINGLE_NUMBER, SINGLE, NUMBERS, LIST = "number", "other", "numbers", "others"
"""What the `kind` of a field may be: a number or something else, or a list of these."""

_JSON = f"{HELPER}json"
_TYPES = (bool, str, int, float)
_SHORT = 10**15  # whole floats below it come back as they were
_LARGEST = 2**63
_MOST_VALUES = 5000  # Chroma fails from 5462 on, and the collection then takes no more writes, ever


def encode(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a Chroma record holds for this metadata; never nothing, which Chroma would not take.

    Args:
        metadata: JSON with whole numbers of 64 bits and finite floats, as `checked_records` gives it.

    Raises:
        InvalidInput: names the key that Chroma cannot hold.
    """
    stored: dict[str, Any] = {}
    aside: dict[str, Any] = {}
    for key, value in metadata.items():
        check_key(key)
        many = isinstance(value, list)
        items = value if many else [] if value is None else [value]
        types = _types(key, items)
        if not items or len(types) > 1 or not all(map(_comes_back, items)):
            aside[key] = value
        if not items:
            continue
        if types <= {int, float}:
            stored |= _numbers(key, value, types) if many else _number(key, value)
        else:
            stored |= {key: value, kind(key): LIST if many else SINGLE}
    stored[_JSON] = json.dumps(aside, ensure_ascii=False)
    _check_size(stored)
    return stored


def decode(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that was encoded. Of a record that others wrote, what it has."""
    if _JSON not in stored:
        return dict(stored)
    metadata = {
        key: value
        for key, value in stored.items()
        if not key.startswith(HELPER) and (kind(key) in stored or not isinstance(value, list))
    }
    metadata.update(json.loads(stored[_JSON]))
    return metadata


def check_key(key: str) -> None:
    """Refuses names that no field in Chroma can have.

    Raises:
        InvalidInput: names the key.
    """
    if not key:
        raise InvalidInput("Chroma takes no metadata with an empty key; name the field")
    for reserved in ("#", "$", "chroma:", HELPER):
        if key.startswith(reserved):
            raise InvalidInput(f"with Chroma no metadata key may begin with {reserved!r}; rename {key!r}")


def kind(key: str) -> str:
    """The field that tells what a field is; missing if that has no value."""
    return f"{HELPER}kind:{key}"


def rank(key: str) -> str:
    """The field that holds the `order` of a number, or those of a list."""
    return f"{HELPER}rank:{key}"


def smallest(key: str) -> str:
    """The field that holds the `order` of the smallest number in a list."""
    return f"{HELPER}min:{key}"


def largest(key: str) -> str:
    """The field that holds the `order` of the largest number in a list."""
    return f"{HELPER}max:{key}"


def order(number: float) -> int:
    """A whole number of 64 bits that compares with others of its kind as the 64-bit floats do."""
    bits: int = struct.unpack("<q", struct.pack("<d", float(number)))[0]
    return bits if bits >= 0 else -(bits + _LARGEST)  # the sign is a bit of its own; -0.0 becomes 0 too


def _types(key: str, items: list[Any]) -> set[type]:
    types = {type(item) for item in items}
    for other in types.difference(_TYPES):
        if other is dict:
            raise InvalidInput(f"Chroma takes no metadata with dicts in it; flatten {key!r}, or keep it as a JSON text")
        held = "None" if other is type(None) else "lists"
        raise InvalidInput(f"Chroma takes no lists with {held} in them; change {key!r}, or keep it as a JSON text")
    if len(types) > 1 and types != {int, float}:
        names = " and ".join(one.__name__ for one in _TYPES if one in types)
        raise InvalidInput(f"Chroma takes no lists with several types in them; {key!r} has {names}: make them one")
    return types


def _comes_back(item: Any) -> bool:
    return not isinstance(item, float) or (item.is_integer() and 0 < abs(item) < _SHORT)  # not -0.0


def _number(key: str, number: float) -> dict[str, Any]:
    helpers = {kind(key): SINGLE_NUMBER, rank(key): order(number)}
    if isinstance(number, int) or abs(number) < _SHORT:
        return {key: number, **helpers}
    # a float would be taken for all whole numbers that it may stand for; beyond 64 bits it stands for none
    return {key: int(number), **helpers} if -_LARGEST <= number < _LARGEST else helpers


def _numbers(key: str, numbers: list[float], types: set[type]) -> dict[str, Any]:
    if float in types and any(abs(number) > MOST_EXACT for number in numbers):
        raise InvalidInput(
            f"in Chroma a list with floats has no numbers beyond 2^53; change {key!r}, or keep it as a JSON text"
        )
    orders = [order(number) for number in numbers]
    return {
        key: [float(number) for number in numbers] if float in types else numbers,
        kind(key): NUMBERS,
        rank(key): orders,
        smallest(key): min(orders),
        largest(key): max(orders),
    }


def _check_size(stored: Mapping[str, Any]) -> None:
    sizes = {key: len(value) if isinstance(value, list) else 1 for key, value in stored.items()}
    if sum(sizes.values()) > _MOST_VALUES:
        longest = max(sizes, key=lambda key: 0 if key.startswith(HELPER) else sizes[key])
        raise InvalidInput(
            f"Chroma takes up to {_MOST_VALUES} values in a record's metadata, and this comes to {sum(sizes.values())} "
            f"with what filters need; most are in {longest!r}: shorten it, or keep it as a JSON text"
        )
