"""`m3 score`: how well passages answer a query, by each mode."""

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from m3cli.options import (
    DEFAULT_MODEL,
    LABELS,
    DeviceOption,
    DtypeOption,
    EndpointOption,
    ModelOption,
    RevisionOption,
    load,
    plain_table,
)
from m3core import MODES
from m3core.fusion import WeightedSum, fuse
from m3core.scoring import mode_scores


def score(
    query: Annotated[str, typer.Argument(help="The question.")],
    passages: Annotated[list[str], typer.Argument(metavar="PASSAGE...", help="One or more passages.")],
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Score passages against a query: dense, sparse, multi-vector, and their weighted sum."""
    encoder = load(model, device, dtype, endpoint=endpoint, revision=revision)
    documents, queries = encoder.encode_documents(passages), encoder.encode_queries([query])
    per_mode = {mode: mode_scores(queries, documents, mode)[0] for mode in encoder.modes}
    hybrid = fuse(per_mode, WeightedSum(*encoder.score_weights))
    table = plain_table("passage", *(LABELS[mode] for mode in encoder.modes), "hybrid")
    for row in zip(passages, *per_mode.values(), hybrid, strict=True):
        table.add_row(Text(row[0]), *(f"{value:.4f}" for value in row[1:]))
    console = Console()
    console.print(table)
    weights = zip(MODES, encoder.score_weights, strict=True)
    console.print("hybrid = " + " + ".join(f"{w:g} · {LABELS[mode]}" for mode, w in weights if w), style="dim")
