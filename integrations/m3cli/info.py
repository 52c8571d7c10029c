"""`m3 info`: what a model is, and what this machine would run it on."""

import platform
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from m3cli.options import plain_table
from m3core.checkpoint import Checkpoint
from m3core.hub import MINI, locate


def info(
    model: Annotated[str, typer.Argument(help="Hub id (in the cache), directory, or m3-mini.")] = MINI,
) -> None:
    """Show what a model has, and what this machine would run it on. Loads no weights, asks no hub."""
    located = locate(model, fetch=False)
    checkpoint = Checkpoint.read(located.directory, name=located.name, revision=located.revision)

    from m3core.backbones.torch import choose_device, choose_dtype

    device = choose_device(None)
    size = sum(p.stat().st_size for p in checkpoint.path.iterdir() if p.suffix in (".safetensors", ".bin", ".pt"))
    rows = {
        "model": f"{checkpoint.name} ({checkpoint.family}, {checkpoint.model_type})",
        "revision": checkpoint.revision,
        "directory": str(checkpoint.path),
        "modes": ", ".join(checkpoint.modes),
        "dense": f"{checkpoint.hidden_size}-d, {checkpoint.pooling} pooling"
        + (", unit length" if checkpoint.normalize else ""),
        "maximum length": f"{checkpoint.max_length} tokens",
        "score weights": "dense {:g}, sparse {:g}, multi-vector {:g}".format(*checkpoint.score_weights),
        "languages": ", ".join(checkpoint.languages) or "not stated",
        "weights": f"{size / 1e6:.0f} MB" + (f", {checkpoint.quantization}" if checkpoint.quantization else ""),
        "would run on": f"{device}, {str(choose_dtype('auto', device)).removeprefix('torch.')}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("m3-retrieval", "torch", "transformers"))
        + f", Python {platform.python_version()}",
    }
    table = plain_table("", "")
    table.show_header = False
    table.columns[1].justify = "left"
    for name, value in rows.items():
        table.add_row(name, Text(value))
    Console().print(table, soft_wrap=True)
