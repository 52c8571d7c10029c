"""What callers give, checked before any work: texts, and lengths in tokens."""

from collections.abc import Iterator, Mapping, Set
from contextlib import suppress

import numpy as np

from m3core.errors import InvalidInput, UnsupportedMode


def iter_texts(texts: object) -> Iterator[object]:
    """An iterator over a list or other source of texts.

    Raises:
        InvalidInput: a single text, None, or something else that holds none.
    """
    if isinstance(texts, Mapping | Set):
        raise InvalidInput(f"expected a list of texts, not a {type(texts).__name__}, which has no order of texts")
    if not isinstance(texts, str | bytes):
        with suppress(TypeError):  # also what calls itself iterable and is not, such as a 0-d array
            return iter(texts)  # type: ignore[call-overload, no-any-return]
    kind = "None" if texts is None else f"a single {type(texts).__name__}"
    raise InvalidInput(f"expected a list of texts, not {kind}; for one text pass [text]")


def check_texts(texts: object, *, first: int = 0) -> list[str]:
    """The texts as a list, if each of them can be encoded.

    Args:
        texts: a list or other source of texts.
        first: the index that messages give the first of them.

    Raises:
        InvalidInput: as `iter_texts`; or a text is not a str or holds a lone surrogate, named by its index.
    """
    return [check_text(text, f"text {i}") for i, text in enumerate(iter_texts(texts), start=first)]


def check_text(text: object, name: str) -> str:
    """The text, if it is a str that UTF-8 can hold; else `InvalidInput`, with `name` in the message."""
    if not isinstance(text, str):
        raise InvalidInput(f"{name} is {'None' if text is None else type(text).__name__}, not a str")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{name} holds a lone surrogate at character {error.start}, which is not valid Unicode; "
            "clean it with text.encode('utf-8', 'replace').decode('utf-8')"
        ) from error
    return text


def checked_length(asked: int | None, limit: int) -> int:
    """The maximum length to use. Raises `InvalidInput` where it leaves no room for a token or exceeds the limit."""
    if asked is None:
        return limit
    if not isinstance(asked, int | np.integer) or not 3 <= asked <= limit:
        raise InvalidInput(f"max_length must be between 3 (two special tokens and one more) and {limit}, not {asked!r}")
    return int(asked)


def checked_mcls(asked: int | None, limit: int, pooling: str, name: str) -> int | None:
    """Before how many tokens of a text a CLS token goes.

    Args:
        asked: by the user.
        limit: the model's maximum length, in tokens.
        pooling: the model's.
        name: the model's, for messages.

    Raises:
        InvalidInput: not a whole number from 1 to the limit.
        UnsupportedMode: the model does not pool by CLS.
    """
    if asked is None:
        return None
    if pooling != "cls":
        raise UnsupportedMode(
            f"{name} has {pooling} pooling, and mcls averages CLS tokens: leave mcls out, or use a model with CLS "
            "pooling, such as BAAI/bge-m3"
        )
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= limit:
        raise InvalidInput(f"mcls must be a whole number of tokens from 1 to {limit}, such as 256, not {asked!r}")
    return asked
