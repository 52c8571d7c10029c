"""Places in a scroll: Chroma itself counts from the start, and skips as many records as were deleted."""

import threading
import uuid

from m3core import InvalidInput

_MOST = 8  # scrolls at once


class Listings:
    """The ids that are left to some scrolls. May be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[str, list[str]] = {}

    def add(self, ids: list[str], offset: int = 0) -> str:
        """A place in a new listing, so far from its beginning."""
        name = uuid.uuid4().hex
        with self._lock:
            while len(self._ids) >= _MOST:
                del self._ids[next(iter(self._ids))]
            self._ids[name] = ids
        return f"{name}:{offset}"

    def next(self, place: str, size: int) -> tuple[list[str], str | None] | None:
        """The ids from a place on, and the place after them, if there is one; `None` if the listing is not known."""
        name, first = self.parts(place)
        with self._lock:
            ids = self._ids.get(name)
            if ids is not None and first + size >= len(ids):
                del self._ids[name]
        if ids is None:
            return None
        return ids[first : first + size], f"{name}:{first + size}" if first + size < len(ids) else None

    @staticmethod
    def parts(place: str) -> tuple[str, int]:
        """The name of a place's listing, and its offset.

        Raises:
            InvalidInput: it is no place.
        """
        name, _, offset = place.partition(":")
        if not offset.isdecimal():
            raise InvalidInput(f"start must be `next` of a page of this store, not {place!r}")
        return name, int(offset)
