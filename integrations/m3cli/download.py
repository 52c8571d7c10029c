"""`m3 download`: a model's files into the cache, or into a directory."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from m3cli.options import EndpointOption, RevisionOption
from m3core import InvalidInput
from m3core.converting import add_safetensors
from m3core.hub import locate


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
        partial = to.with_name(to.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(located.directory, partial)  # the files themselves, not links to them
        if to.exists():
            to.rmdir()
        os.replace(partial, to)
    Console().print(str(to or located.directory), markup=False, highlight=False, soft_wrap=True)
