"""Whether a collection has as many records as it must."""

from m3core import StoreError
from m3stores.pipeline.summary import Summary
from m3stores.store import HybridStore


def check_count(store: HybridStore, before: int, summary: Summary) -> None:
    """Refuses a collection that has lost records, or got others, since it had as many as `before`."""
    held, due = store.count(), before + summary.added - summary.removed
    if held != due:
        raise StoreError(
            f"collection {store.collection!r} holds {held} records and not {due}: {before} were there, "
            f"{summary.added} are new, {summary.removed} were removed. Another program has written to it, or a process "
            "died just when it removed some. If not, index the source again, which stores what is missing"
        )
