"""Puts the commands together, and turns errors into one red line."""

import sys
import warnings

import typer
from rich.console import Console

from m3cli.download import download
from m3cli.encode import encode
from m3cli.evaluate import evaluate
from m3cli.index import index
from m3cli.info import info
from m3cli.plan import plan
from m3cli.score import score
from m3cli.search import search
from m3cli.train import train
from m3core.errors import M3Error, M3Warning

app = typer.Typer(
    help="Dense, sparse and multi-vector retrieval with the M3 embedding families.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (search, index, plan, encode, score, download, info):
    app.command()(command)
app.command("eval")(evaluate)
app.add_typer(train, name="train")


def main() -> None:
    """The entry point of the `m3` command. Exits with 1 after an error that it could name."""
    console = Console(stderr=True)

    def show(message: Warning | str, *_: object, **__: object) -> None:
        console.print("[yellow]warning:[/]", end=" ")
        console.print(str(message), markup=False, highlight=False, soft_wrap=True)

    warnings.simplefilter("always", M3Warning)
    warnings.showwarning = show
    try:
        app()
    except M3Error as error:
        console.print("[red]error:[/]", end=" ")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
