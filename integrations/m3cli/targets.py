"""A file that takes its place when it is complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def completed(target: Path) -> Iterator[Path]:
    """Where to write meanwhile; what is there takes the target's place at the end, and goes if that does not come."""
    partial = target.with_name(target.name + ".partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
