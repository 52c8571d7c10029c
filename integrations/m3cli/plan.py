"""`m3 plan`: what a collection of so many passages takes."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from m3cli.options import DEFAULT_MODEL, ModelOption
from m3core import InvalidInput, Mode
from m3core.parts import write_json
from m3stores import pipeline
from m3stores.pipeline.sizing import Quantity

_SIZES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_GROUPS = {
    "given": "given",
    "disk": "disk",
    "memory": "memory of the servers",
    "nodes": "cluster",
    "time": "time",
}


def plan(
    passages: Annotated[str, typer.Option(help="How many: 100M, 1.5k, 2B or 100_000_000.")],
    tokens: Annotated[int, typer.Option(help="Of a passage, on average.")] = 200,
    modes: Annotated[str | None, typer.Option(help="Comma-separated; default: all that the model has.")] = None,
    model: ModelOption = DEFAULT_MODEL,
    dim: Annotated[
        int | None, typer.Option("--dim", "--dense-dim", help="Of dense vectors. Default: the model's, if it is known.")
    ] = None,
    multivector_dim: Annotated[int | None, typer.Option(help="Of multi-vectors. Default: the model's.")] = None,
    nonzeros: Annotated[int | None, typer.Option(help="Of a sparse vector. Default: estimated from --tokens.")] = None,
    quantization: Annotated[
        str, typer.Option(help="auto, none, int8 or turbo4: copies of dense vectors, in memory.")
    ] = "auto",
    multivector_type: Annotated[str, typer.Option(help="float16, or turbo4, a quarter of it.")] = "float16",
    on_disk: Annotated[
        bool | None, typer.Option("--on-disk/--in-memory", help="Dense vectors and sparse index. Default: as fits.")
    ] = None,
    replicas: Annotated[int, typer.Option(help="Copies of the collection.")] = 1,
    node_memory: Annotated[float, typer.Option(help="Of a server, in GB.")] = 64,
    gpus: Annotated[int, typer.Option(help="Cards that encode.")] = 1,
    tokens_per_second: Annotated[
        float | None, typer.Option(help="That a card encodes, from a sample of yours. Default: estimated.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Also write it to this file; - prints only it.")
    ] = None,
) -> None:
    """Say what a collection in Qdrant takes: disk, memory, GPU-hours and settings, each figure with its formula."""
    made = pipeline.plan(
        count(passages),
        tokens=tokens,
        modes=cast("list[Mode] | None", [m.strip() for m in modes.split(",")] if modes else None),
        model=model,
        dense_dim=dim,
        multivector_dim=multivector_dim,
        nonzeros=nonzeros,
        quantization=cast("Any", None if quantization == "none" else quantization),
        multivector_type=cast("Any", multivector_type),
        on_disk=on_disk,
        replicas=replicas,
        node_memory=node_memory * 1e9,
        gpus=gpus,
        tokens_per_second=tokens_per_second,
    )
    if json_file == "-":
        typer.echo(json.dumps(made.report(), indent=2, ensure_ascii=False))
        return
    if json_file is not None:
        write_json(Path(json_file), made.report())
    _show(made)


def count(text: str) -> int:
    """A number of things as people write it: `100M`, `1.5k`, `2B`, `100_000_000`.

    Raises:
        InvalidInput: it is none, or no whole one.
    """
    found = re.fullmatch(r"(\d[\d_,]*(?:\.\d+)?)([kmb]?)", text.strip(), re.IGNORECASE | re.ASCII)
    if found is not None:
        value = Decimal(found[1].replace("_", "").replace(",", "")) * _SIZES[found[2].lower()]
        if value == int(value) and value >= 1:
            return int(value)
    raise InvalidInput(f"--passages is a whole number such as 100M, 1.5k, 2B or 100_000_000, not {text!r}")


def _show(made: pipeline.Plan) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(max_width=26)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column()
    for name, title in _GROUPS.items():
        table.add_row(Text(title, style="bold"))
        quantities: tuple[Quantity, ...] = getattr(made, name)
        for quantity in quantities:
            basis = "" if quantity.basis == "exact" else quantity.basis
            table.add_row(f"  {quantity.name}", str(quantity), quantity.formula, Text(basis, style="dim"))
    console.print(table, highlight=False)
    console.print()
    console.print("[bold]settings[/], for QdrantStore(..., settings=...) when the collection is made")
    console.print(f"  {made.code()}", markup=False, highlight=False, soft_wrap=True)
    for title, lines in (("hints", made.hints), ("warnings", made.warnings)):
        if lines:
            console.print()
            console.print(Text(title, style="bold" if title == "hints" else "bold yellow"))
        for line in lines:
            console.print(Text(f"- {line}"))
    console.print()
    console.print(
        "Decimal units: GB = 10⁹ bytes. measured: constants from the embedded engine; vendor: from Qdrant's "
        "documentation; assumed: not measured.",
        style="dim",
    )
