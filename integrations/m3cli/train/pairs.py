"""`m3 train pairs`: pairs from the structure of documents."""

from collections import Counter
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from tqdm.auto import tqdm

from m3cli.train.writing import check_target, write_line, written
from m3core.train.making.pairs import PAIR_KINDS, Cleaning, PairKind, pair_files, raw_pairs


def pairs(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE... TARGET", help="Files or folders, and a target.")],
    kinds: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(PAIR_KINDS),
    min_words: Annotated[int, typer.Option(help="The shortest text; a Chinese character is a word.")] = 20,
    max_words: Annotated[int, typer.Option(help="Cut texts at the end of a paragraph before this.")] = 5000,
) -> None:
    """Make pairs of title and text, heading and section, question and answer.

    Sources are Markdown, HTML, and JSON lines with title and text (or body, content), heading and section, or question
    and answer. The target is a .jsonl file in BGE's format.
    """
    *given, target = sources
    if not given:
        raise typer.BadParameter("pairs takes at least one source, and a target")
    cleaning = Cleaning(
        kinds=cast("list[PairKind]", [kind.strip() for kind in kinds.split(",")]),
        min_words=min_words,
        max_words=max_words,
    )
    files = pair_files(given)
    check_target(target, files)
    made: Counter[str] = Counter()
    with written(target) as out:
        for path in tqdm(files, unit="file", disable=not Console(stderr=True).is_terminal):
            for pair in cleaning(raw_pairs(path)):
                write_line(out, {"query": pair.query, "pos": [pair.text]})
                made[pair.kind] += 1
    by_kind = ", ".join(f"{kind} {made[kind]}" for kind in PAIR_KINDS if made[kind])
    dropped = ", ".join(f"{reason} {count}" for reason, count in cleaning.dropped.most_common())
    said = f"{len(files)} files, {made.total()} pairs{f' ({by_kind})' if by_kind else ''} → {target}"
    left_out = f"; left out: {dropped}" if dropped else ""
    Console().print(said + left_out, markup=False, highlight=False, soft_wrap=True)
