"""Locks: one process at a time can have an embedded collection open, or write to the same files."""

from pathlib import Path
from typing import TYPE_CHECKING

from m3core import CollectionLocked, InvalidInput

if TYPE_CHECKING:
    from filelock import BaseFileLock


def locked(file: Path, what: str) -> "BaseFileLock":
    """The lock on this file, taken. The file stays when the lock is released.

    Args:
        file: made if it does not exist, with its directory.
        what: is locked, for the message: "collection 'debate' in ./index".

    Raises:
        CollectionLocked: somebody has it.
        InvalidInput: there can be no such file.
    """
    from filelock import FileLock, Timeout

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=0, thread_local=False)
        lock.acquire()
    except Timeout as error:
        raise CollectionLocked(
            f"{what} is open already, in this process or in another: close it there first. Only one at a time "
            "can have it"
        ) from error
    except OSError as error:
        raise InvalidInput(f"nothing can be kept in {file.parent}: {error}") from error
    return lock
