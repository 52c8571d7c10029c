"""`m3 train retromae`: pre-trains an encoder on plain texts."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from m3cli.options import DeviceOption, EndpointOption, RevisionOption, plain_table
from m3cli.train.finetune import OutputOption, ResumeOption, SeedOption, TrainDtypeOption


def retromae(
    texts: Annotated[list[Path], typer.Argument(metavar="TEXTS...", help="Files or folders.")],
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="M3_MODEL", help="Hub id or directory of the encoder to train.")
    ],
    output: OutputOption = Path("pretrained-model"),
    dev: Annotated[list[Path] | None, typer.Option(help="Held-out texts; may be given several times.")] = None,
    epochs: Annotated[float, typer.Option(help="How often each text is seen.")] = 1,
    steps: Annotated[int | None, typer.Option(help="In place of epochs: nothing need be counted.")] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Of texts in tokens; positions are extended to it. Default: the model's.")
    ] = None,
    batch_tokens: Annotated[int, typer.Option(help="Tokens of a step, on each device.")] = 8192,
    tokens_at_once: Annotated[
        int | None, typer.Option(help="Of them through the model at once. Default: by model and memory.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 1e-4,
    encoder_masked: Annotated[float, typer.Option(help="Share of words that the encoder does not see.")] = 0.3,
    decoder_masked: Annotated[float, typer.Option(help="Share that a row of the decoder does not.")] = 0.5,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, for a third more time.")
    ] = False,
    evaluations: Annotated[int, typer.Option(help="How often to measure and save.")] = 10,
    resume: ResumeOption = False,
    seed: SeedOption = 42,
    device: DeviceOption = None,
    dtype: TrainDtypeOption = "auto",
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Pre-train an encoder on plain texts by RetroMAE, before it is trained to retrieve.

    Texts are JSON lines with a text each (.jsonl, .jsonl.gz), or files with a text a line (.txt). What is written to
    OUTPUT/model is a model for all other commands, and for more pre-training.
    """
    from m3core.train import RetroMAE

    found = RetroMAE.from_pretrained(
        model, dataset=texts, dev=dev or None, device=device, dtype=dtype, endpoint=endpoint, revision=revision
    )
    progress = Console(stderr=True).is_terminal
    made = found.run(
        epochs=epochs,
        steps=steps,
        output=output,
        max_length=max_length,
        batch_tokens=batch_tokens,
        tokens_at_once=tokens_at_once,
        learning_rate=learning_rate,
        encoder_masked=encoder_masked,
        decoder_masked=decoder_masked,
        gradient_checkpointing=gradient_checkpointing,
        evaluations=evaluations,
        resume=resume,
        seed=seed,
        show_progress=progress,
    )
    console = Console()
    names = ("loss", "encoder_loss", "decoder_loss")
    table = plain_table("", *(name.replace("_", " ") for name in names))
    for label, prefix in (("texts", ""), ("held out", "eval_")):
        logged = [entry for entry in made.history if f"{prefix}loss" in entry]
        if logged:
            cells = [f"{logged[0][prefix + name]:.3f} → {logged[-1][prefix + name]:.3f}" for name in names]
            table.add_row(label, *cells)
    console.print(table)
    console.print(f"{made.history[-1]['step']} steps → {made.directory}", markup=False, highlight=False, soft_wrap=True)
