"""`m3 train`: making training data."""

import typer

from m3cli.train.mine import mine
from m3cli.train.pairs import pairs
from m3cli.train.synth import synth

train = typer.Typer(help="Make training data: pairs, hard negatives, synthetic questions.", no_args_is_help=True)
for command in (mine, pairs, synth):
    train.command()(command)
