"""What the commands that make data share: their target."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from m3core import InvalidInput
from m3core.parts import completed


def check_target(target: Path, sources: Iterable[Path]) -> None:
    """Refuses a target that cannot be written, or that is read as well."""
    if target.suffix != ".jsonl":
        raise InvalidInput(f"the target must end in .jsonl, not {target.name!r}")
    if not target.parent.is_dir() or target.is_dir():
        raise InvalidInput(f"{target} cannot be written: its folder must exist, and it must not be a folder itself")
    if target.resolve() in [source.resolve() for source in sources]:
        raise InvalidInput(f"{target} is read as well: give another target")


@contextmanager
def written(target: Path) -> Iterator[IO[str]]:
    """A file that takes the target's place when it is complete."""
    with completed(target) as partial, partial.open("w", encoding="utf-8") as file:
        yield file


def write_line(file: IO[str], record: Mapping[str, Any]) -> None:
    """Writes a record."""
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
