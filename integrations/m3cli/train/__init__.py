"""`m3 train`: training, and making data for it."""

import typer

from m3cli.train.finetune import contrastive, finetune
from m3cli.train.mine import mine
from m3cli.train.pairs import pairs
from m3cli.train.retromae import retromae
from m3cli.train.synth import synth

train = typer.Typer(
    help="Train models, and make data for it: pairs, hard negatives, synthetic questions.", no_args_is_help=True
)
for command in (finetune, contrastive, retromae, mine, pairs, synth):
    train.command()(command)
