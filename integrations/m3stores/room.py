"""Room on the disk of an embedded collection. Its engine must not find out by itself that there is none.

Qdrant's maps its files, and the system ends the process where the disk has no room for a page; Chroma's waits for ever.
"""

import shutil
from pathlib import Path

from m3core import StoreError

_ROOM = 100 << 20  # bytes that files may grow by at once
_COPIES = 4  # of what is written: in the log, in the storage, in an index


def check_room(directory: Path, writes: int, collection: str) -> None:
    """Refuses to write where there may not be room enough.

    Args:
        directory: on the disk; it may be missing still.
        writes: how many bytes are to be kept.
        collection: its name, for the message.

    Raises:
        StoreError: the disk is full.
    """
    there = next(folder for folder in (directory, *directory.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < _ROOM + _COPIES * writes:
        raise StoreError(
            f"only {free / 1e6:.0f} MB are left on the disk of collection {collection!r} in {directory}: make room, "
            "and do it again. What was stored is there"
        )
