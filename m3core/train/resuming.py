"""Going on with a run that was broken off: from its last checkpoint, as it began."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m3core.errors import InvalidInput, TrainingFailed
from m3core.parts import write_json

_SHOWN = 80  # characters of a value


def last_checkpoint(folder: Path, resume: bool) -> Path | None:
    """The last one that was written to its end: its state is written last.

    Raises:
        InvalidInput: there is one, and `resume` is not asked for.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    if found and not resume:
        raise InvalidInput(
            f"{folder} has checkpoints of an earlier run: pass resume=True to go on with it, or another output"
        )
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return path
    return None


def check_same_run(path: Path, stated: Mapping[str, Any], *, first: bool) -> None:
    """Notes what a run is made with, or compares it with the note of the one that goes on.

    Args:
        path: of the note.
        stated: data, model and settings by name.
        first: whether the run begins.

    Raises:
        TrainingFailed: it began with something else.
    """
    run = json.loads(json.dumps(dict(stated)))
    if first:
        write_json(path, run)
        return
    if path.is_file():
        begun = json.loads(path.read_text(encoding="utf-8"))
        if differing := [name for name, value in run.items() if begun.get(name) != value]:
            name = differing[0]
            raise TrainingFailed(
                f"{path.parent} has a run with another {name} ({_short(begun.get(name))}, now {_short(run[name])}): "
                "resume it as it was, or choose another output"
            )


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) < _SHOWN else f"{said[: _SHOWN - 3]}…"
