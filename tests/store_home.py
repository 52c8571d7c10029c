"""Room for one collection of some kind."""

from store_kinds import Kind, Open, unique_name
from store_reference import Reference

from m3stores import HybridStore


class Home:
    """A name for a collection, and what opens it. Whatever was opened is closed, and the collection dropped."""

    def __init__(self, kind: Kind, opens: Open) -> None:
        self.kind, self._opens = kind, opens
        self.name = unique_name()
        self._opened: list[HybridStore] = []

    def open(self) -> HybridStore:
        """The collection; of a temporary kind, a new one each time."""
        self._opened.append(self._opens(self.name))
        return self._opened[-1]

    def reference(self) -> Reference:
        """An empty one, that keeps what this kind keeps."""
        return Reference(self.kind.half, self.kind.half_queries)

    def leave(self) -> None:
        for store in self._opened:
            store.close()
        if self.kind.lasting:
            with self._opens(self.name) as store:
                store.drop()
