"""`m3 train finetune` and `m3 train contrastive`: a model, trained on data of one's own."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from m3cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    EndpointOption,
    ModelOption,
    RevisionOption,
    plain_table,
)
from m3core import InvalidInput

if TYPE_CHECKING:
    from m3core.train import FineTuned

DataArgument = Annotated[
    list[str], typer.Argument(metavar="DATA...", help="JSON lines (query, pos, neg and the like), or BEIR folders.")
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="A folder for the model, checkpoints and logs.")]
DevOption = Annotated[
    str | None, typer.Option(help="To measure with: JSON lines or a BEIR folder. Default: 5 % of the data, held out.")
]
EpochsOption = Annotated[float, typer.Option(help="How often each record is seen.")]
BatchOption = Annotated[int, typer.Option(help="Records of a batch, in all processes together.")]
TokensOption = Annotated[int | None, typer.Option(help="The most tokens of a batch, about, where records are long.")]
RateOption = Annotated[float | None, typer.Option(help="Of the body. Default: by its size.")]
LengthOption = Annotated[
    int | None, typer.Option(help="Cut texts at so many tokens. Default: 512, or the model's limit.")
]
TemperatureOption = Annotated[float | None, typer.Option(help="What scores are divided by. Default: 0.02, dense 0.05.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")]
TrainDtypeOption = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
SeedOption = Annotated[int, typer.Option(help="Of everything that is drawn.")]


def finetune(
    data: DataArgument,
    model: ModelOption = DEFAULT_MODEL,
    output: OutputOption = Path("finetuned-model"),
    dev: DevOption = None,
    epochs: EpochsOption = 3,
    batch_size: BatchOption = 64,
    batch_tokens: TokensOption = None,
    max_length: LengthOption = None,
    learning_rate: RateOption = None,
    head_learning_rate: Annotated[float | None, typer.Option(help="Of heads and projection.")] = None,
    temperature: TemperatureOption = None,
    negatives: Annotated[int, typer.Option(help="The most hard negatives of a query in a batch.")] = 7,
    modes: Annotated[
        str | None, typer.Option(help="Comma-separated; one that the model lacks gets a new head.")
    ] = None,
    projection: Annotated[bool, typer.Option("--projection", help="Add a linear layer behind pooling.")] = False,
    freeze: Annotated[
        str | None, typer.Option(help="Comma-separated: backbone, matrices (BitFit), dense, sparse, multivector.")
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train adapters, and merge them at the end.")] = False,
    matryoshka: Annotated[str | None, typer.Option(help="Widths to be useful at when cut, comma-separated.")] = None,
    anchor: Annotated[float, typer.Option(help="How strongly weights are pulled back to what they were.")] = 0.0,
    teacher_loss: Annotated[str, typer.Option(help="kl_div or m3_kd_loss, where records have scores.")] = "kl_div",
    prompt: Annotated[str, typer.Option(help="Goes before queries.")] = "",
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.")
    ] = False,
    evaluations: Annotated[int, typer.Option(help="How often to measure and save.")] = 10,
    early_stopping: Annotated[
        int, typer.Option(help="Stop after so many measures without a better one; 0: never.")
    ] = 3,
    resume: ResumeOption = False,
    device: DeviceOption = None,
    dtype: TrainDtypeOption = "auto",
    seed: SeedOption = 42,
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Fine-tune a model by all of its representations; under torchrun, in several processes.

    What comes out, OUTPUT/model, loads wherever a model is named.
    """
    from m3core.train import FineTuner

    tuner = FineTuner.from_pretrained(
        model,
        dataset=data,
        dev=dev,
        modes=cast("Any", None if modes is None else _split(modes)),
        projection=projection,
        freeze=cast("Any", _split(freeze or "")),
        lora=lora,
        negatives=negatives,
        prompt=prompt,
        device=device,
        dtype=dtype,
        endpoint=endpoint,
        revision=revision,
        seed=seed,
    )
    tuned = tuner.run(
        epochs=epochs,
        output=output,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        max_length=max_length,
        learning_rate=learning_rate,
        head_learning_rate=head_learning_rate,
        temperature=temperature,
        teacher_loss=cast("Any", teacher_loss),
        matryoshka=[_whole(width) for width in _split(matryoshka or "")],
        anchor=anchor,
        gradient_checkpointing=gradient_checkpointing,
        evaluations=evaluations,
        early_stopping=early_stopping or None,
        resume=resume,
        seed=seed,
    )
    _show(tuned)


def contrastive(
    data: DataArgument,
    model: ModelOption = DEFAULT_MODEL,
    output: OutputOption = Path("contrastive-model"),
    dev: DevOption = None,
    epochs: EpochsOption = 1,
    batch_size: BatchOption = 512,
    batch_tokens: TokensOption = 65536,
    max_length: LengthOption = None,
    learning_rate: RateOption = None,
    temperature: TemperatureOption = 0.02,
    resume: ResumeOption = False,
    device: DeviceOption = None,
    dtype: TrainDtypeOption = "auto",
    seed: SeedOption = 42,
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Train dense vectors on many pairs that nobody judged, such as titles and bodies from `m3 train pairs`.

    BGE-M3's second stage (arXiv 2402.03216, section 3.1): large batches of pairs of similar length, no hard negatives.
    """
    from m3core.train import FineTuner

    tuner = FineTuner.from_pretrained(
        model,
        dataset=data,
        dev=dev,
        modes=["dense"],
        negatives=0,
        device=device,
        dtype=dtype,
        endpoint=endpoint,
        revision=revision,
        seed=seed,
    )
    tuned = tuner.run(
        epochs=epochs,
        output=output,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        max_length=max_length,
        learning_rate=learning_rate,
        temperature=temperature,
        early_stopping=None,
        resume=resume,
        seed=seed,
    )
    _show(tuned)


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _whole(width: str) -> int:
    try:
        return int(width)
    except ValueError as error:
        raise InvalidInput(f"--matryoshka takes whole numbers, such as 768,256,64, not {width!r}") from error


def _show(tuned: "FineTuned") -> None:
    if os.environ.get("RANK", "0") != "0":  # torchrun's name of the process
        return
    console = Console()
    if tuned.after:
        table = plain_table("on the dev set", "before", "after")
        for name, value in tuned.after.items():
            table.add_row(name, f"{tuned.before[name]:.3f}", f"{value:.3f}")
        console.print(table)
    console.print(f"the model is in {tuned.directory}", markup=False, highlight=False, soft_wrap=True)
