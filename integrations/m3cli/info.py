"""`m3 info`: what a model is, and what this machine would run it on."""

import platform
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from m3cli.options import plain_table
from m3core.checkpoint import Checkpoint
from m3core.hub import MINI, Located, locate
from m3core.hub.cached import Repository


def info(
    model: Annotated[str, typer.Argument(help="Hub id (in the cache), directory, or m3-mini.")] = MINI,
) -> None:
    """Show what a model has, where it came from, and what this machine would run it on; and all models in the cache.

    Loads no weights, asks no hub. A model from a hub is read once, to compare its files with their hashes.
    """
    located = locate(model, local_files_only=True)
    checkpoint = Checkpoint.read(located.directory, name=located.name, revision=located.revision)

    from m3core.backbones.engines import choose_device, choose_dtype, choose_engine
    from m3core.quantizing import FILE as INT8

    device = choose_device(None)
    engine = choose_engine("auto", "auto", device, checkpoint)
    weights = {p for p in checkpoint.path.iterdir() if p.suffix in (".safetensors", ".bin", ".pt") and p.name != INT8}
    weights |= {checkpoint.projection.linear.path} if checkpoint.projection else set()
    size = sum(path.stat().st_size for path in weights)
    rows = {
        "model": f"{checkpoint.name} ({checkpoint.family}, {checkpoint.model_type})",
        "revision": checkpoint.revision,
        "directory": str(checkpoint.path),
        **_origin(located),
        "modes": ", ".join(checkpoint.modes),
        "dense": f"{checkpoint.dense_dim}-d, {checkpoint.pooling} pooling"
        + (", unit length" if checkpoint.normalize else ""),
        "maximum length": f"{checkpoint.max_length} tokens",
        "score weights": "dense {:g}, sparse {:g}, multi-vector {:g}".format(*checkpoint.score_weights),
        "languages": ", ".join(checkpoint.languages) or "not stated",
        "weights": f"{size / 1e6:.0f} MB" + (f", {checkpoint.quantization}" if checkpoint.quantization else ""),
        "would run on": f"{device}, {engine}, {choose_dtype('auto', device, engine)}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("m3-retrieval", "torch", "transformers"))
        + f", Python {platform.python_version()}",
    }
    table = plain_table("", "")
    table.show_header = False
    table.columns[1].justify = "left"
    for name, value in rows.items():
        table.add_row(name, Text(value))
    Console().print(table, soft_wrap=True)
    _print_cache()


def _origin(located: Located) -> dict[str, str]:
    """Where a model of a hub came from, and whether its files are still what they were."""
    if located.revision is None:
        return {}
    repository = Repository(located.name, None)
    damaged = [file.name for file in repository.damaged(located.revision, thorough=True)]
    return {
        "from": repository.source(located.revision) or "not fetched by m3",
        "files": f"damaged: {', '.join(damaged)}; m3 download fetches them again" if damaged else "verified",
    }


def _print_cache() -> None:
    table = plain_table("in the cache", "commit", "MB", "from", "files")
    for repository in Repository.all():
        for commit in repository.commits():
            size = sum(path.stat().st_size for path in repository.snapshot(commit).rglob("*") if path.is_file())
            columns = (
                repository.model,
                commit[:8],
                f"{size / 1e6:.0f}",
                repository.source(commit) or "",
                _state(repository, commit),
            )
            table.add_row(*map(Text, columns))
    if table.row_count:
        Console().print()
        Console().print(table, soft_wrap=True)


def _state(repository: Repository, commit: str) -> str:
    if damaged := repository.damaged(commit):
        return f"damaged: {', '.join(file.name for file in damaged)}"
    lacking = repository.missing(commit)
    return f"lacks {', '.join(lacking)}" if lacking else "verified"
