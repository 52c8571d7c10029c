"""Places in a scroll: Chroma itself counts from the start, and skips as many records as were deleted."""

import threading
import uuid

_MOST = 8  # scrolls at once


class Listings:
    """The ids that are left to some scrolls. May be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[str, list[str]] = {}

    def add(self, ids: list[str], like: str | None = None) -> str:
        """The place at the beginning of a new listing, or as far on as the place `like` was."""
        name = uuid.uuid4().hex
        with self._lock:
            while len(self._ids) >= _MOST:
                del self._ids[next(iter(self._ids))]
            self._ids[name] = ids
        return f"{name}:{like.partition(':')[2] if like else 0}"

    def has(self, place: str) -> bool:
        """Whether the listing of this place is still known."""
        return place.partition(":")[0] in self._ids

    def next(self, place: str, size: int) -> tuple[list[str], str | None]:
        """The ids from a place on, and the place after them, if there is one."""
        name, _, offset = place.partition(":")
        first = int(offset)
        with self._lock:
            ids = self._ids.get(name, [])
            if first + size < len(ids):
                return ids[first : first + size], f"{name}:{first + size}"
            self._ids.pop(name, None)
            return ids[first:], None
