"""`m3 train mine`: hard negatives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from m3cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    DtypeOption,
    EndpointOption,
    MaxLengthOption,
    ModelOption,
    RevisionOption,
    load,
)
from m3cli.train.writing import check_target, write_line, written
from m3core import M3Encoder, Mode, VectorCache
from m3core.records import read_records
from m3core.train.making.mining import Choice, Sampling, Score, passages_of
from m3core.train.making.mining import mine as mined
from m3core.train.making.writing import bge_record
from m3core.train.records import read_examples

HYBRID = "hybrid"
_KEPT = 2**31  # bytes, most of them on disk: 2,000 passages of bge-m3 with all modes


def mine(
    source: Annotated[Path, typer.Argument(help="Records with query and pos in JSON lines, or a BEIR folder.")],
    target: Annotated[Path, typer.Argument(help="A .jsonl file to write, in BGE's format.")],
    model: ModelOption = DEFAULT_MODEL,
    corpus: Annotated[
        Path | None, typer.Option(help="More passages to search: JSON lines with _id and text, or their folder.")
    ] = None,
    modes: Annotated[str, typer.Option(help="Search by these, comma-separated; several are summed.")] = "dense",
    negatives: Annotated[int, typer.Option(help="For each record.")] = Choice.negatives,
    range_min: Annotated[int, typer.Option(help="Skip so many of the best passages.")] = Choice.range_min,
    range_max: Annotated[int, typer.Option(help="Go no deeper than this rank.")] = Choice.range_max,
    min_score: Annotated[float | None, typer.Option(help="The least score of a negative.")] = None,
    max_score: Annotated[float | None, typer.Option(help="The largest score of a negative.")] = None,
    absolute_margin: Annotated[float | None, typer.Option(help="Below the positive by so much, at least.")] = None,
    relative_margin: Annotated[
        float | None, typer.Option(help="The same as a share; 0.05 is NV-Retriever's 95 %.")
    ] = None,
    sampling: Annotated[str, typer.Option(help="random or top.")] = Choice.sampling,
    seed: Annotated[int, typer.Option(help="Of the random choice.")] = Choice.seed,
    teacher: Annotated[
        str | None,
        typer.Option(help="A cross-encoder that scores the passages, or hybrid: the model's own sum of all modes."),
    ] = None,
    teacher_max_length: Annotated[int, typer.Option(help="Cut query and passage at so many tokens.")] = 512,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    max_length: MaxLengthOption = None,
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Find hard negatives: passages that rank high for a query and are none of its positives.

    The passages searched are all positives and negatives of the records, and those of --corpus. New negatives replace
    old ones. With --teacher the records get its scores, and margins and bounds are about these.
    """
    check_target(target, [source])
    choice = Choice(
        negatives, range_min, range_max, min_score, max_score, absolute_margin, relative_margin,
        cast(Sampling, sampling), seed,
    )  # fmt: skip
    examples = list(read_examples(source))
    passages = passages_of(examples, _texts(corpus) if corpus else ())
    from m3core.train.making.exact import ExactSearch

    encoder = load(model, device, dtype, max_length, endpoint, revision)
    wanted = cast("list[Mode]", [mode.strip() for mode in modes.split(",")])
    progress = Console(stderr=True).is_terminal
    search = ExactSearch(encoder, passages, modes=wanted, show_progress=progress)
    score = _teacher(teacher, encoder, device, teacher_max_length, endpoint) if teacher else None
    records = total = few = none = 0
    with written(target) as file:
        for example in mined(examples, search, choice=choice, score=score, show_progress=progress):
            write_line(file, bge_record(example))
            records += 1
            total += len(example.negatives)
            few += len(example.negatives) < negatives
            none += not example.negatives
    said = f"{records} records, {total} negatives among {len(passages)} passages → {target}"
    lacking = f"; {few} records have fewer than {negatives}, {none} of them none" if few else ""
    Console().print(said + lacking, markup=False, highlight=False, soft_wrap=True)


def _texts(corpus: Path) -> Iterator[str]:
    path = corpus / "corpus.jsonl" if corpus.is_dir() else corpus
    return (record.text for record in read_records(path))


def _teacher(name: str, encoder: M3Encoder, device: str | None, max_length: int, endpoint: str | None) -> Score:
    if name == HYBRID:
        from m3core.train.making.exact import EncoderScore

        encoder.cache = VectorCache(max_bytes=_KEPT)  # a passage is a candidate of many queries
        return EncoderScore(encoder)
    from m3core.train.making.teachers import CrossEncoder

    return CrossEncoder(name, device=device, max_length=max_length, endpoint=endpoint)
