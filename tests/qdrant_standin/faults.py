"""Trouble to order: what the next requests meet instead of, or after, the operation they ask for."""

import threading
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Fault:
    """One kind of trouble for requests whose method and path contain the given texts.

    Over gRPC, the method is `POST`, the path is like `/qdrant.Points/Upsert`, and a status is told by its gRPC name.
    """

    status: int | None = None  # answered instead of acting
    retry_after: int | None = None  # seconds, in the answer's header
    drop: Literal["before", "after"] | None = None  # the connection goes; "after": it was done, the answer is lost
    truncate: bool = False  # the answer stops in its middle
    delay: float = 0.0  # seconds, before all else
    method: str = ""
    path: str = ""
    times: int = 1


class Faults:
    """Faults in order; each goes when it has met as many requests as it is for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: list[Fault] = []

    def __len__(self) -> int:
        return len(self._queue)

    def append(self, fault: Fault) -> None:
        with self._lock:
            self._queue += [fault] * fault.times

    def clear(self) -> None:
        with self._lock:
            self._queue.clear()

    def take(self, method: str, path: str) -> Fault:
        """The first fault that is for such a request, or one without trouble."""
        with self._lock:
            for n, fault in enumerate(self._queue):
                if fault.method in method and fault.path in path:
                    return self._queue.pop(n)
        return Fault()
