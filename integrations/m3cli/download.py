"""`m3 download`: a model's files into the cache, or into a directory."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from m3cli.options import EndpointOption, RevisionOption
from m3core import InvalidInput
from m3core.converting import add_safetensors
from m3core.hub import locate
from m3core.hub.listing import needed


def download(
    model: Annotated[str, typer.Argument(help="Hub id, such as BAAI/bge-m3.")],
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
    to: Annotated[Path | None, typer.Option(help="Also copy the files to this new or empty directory.")] = None,
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="Convert pytorch_model.bin once, so that later starts map memory.")
    ] = False,
) -> None:
    """Fetch what a model needs, check every file's hash, and go on where an earlier try was cut off.

    The token for private repositories is HF_TOKEN's, or what `hf auth login` left.
    """
    if to is not None and to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InvalidInput(f"{to} is there already and not an empty directory; name a new one")
    located = locate(model, endpoint=endpoint, revision=revision)
    if safetensors:
        add_safetensors(located)
    if to is not None:
        _copy(located.directory, to.resolve())
    Console().print(str(to or located.directory), markup=False, highlight=False, soft_wrap=True)


def _copy(source: Path, to: Path) -> None:
    """Copies what the model needs; all of it, or nothing."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as temporary:
        for name in needed([path.relative_to(source).as_posix() for path in source.rglob("*")]):
            target = Path(temporary) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
        if to.exists():
            to.rmdir()
        Path(temporary).rename(to)
        Path(temporary).mkdir()  # for the end of this block
