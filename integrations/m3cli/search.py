"""`m3 search`: hybrid search over a folder, in memory."""

from pathlib import Path
from typing import Annotated

import numpy as np
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
)
from m3core import M3Encoder, M3Output
from m3core.evaluation.beir import Passages, load_corpus
from m3core.scoring import WeightedSum, fuse, mode_scores


def search(
    folder: Annotated[Path, typer.Argument(help="A folder with corpus.jsonl: {_id, text, title?, metadata?} a line.")],
    queries: Annotated[list[str], typer.Argument(metavar="QUERY...", help="One or more questions.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Hits for each query.")] = 3,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
) -> None:
    """Rank the passages of a folder for each query: fused and per-mode scores, matched tokens highlighted."""
    corpus = load_corpus(folder)
    encoder = load(model, device, dtype, endpoint=endpoint, revision=revision)
    documents = encoder.encode_documents(corpus.texts, show_progress=Console(stderr=True).is_terminal)
    encoded = encoder.encode_queries(queries)
    console = Console()
    console.print(f"{len(corpus.ids)} passages, {encoder.fingerprint.model}\n", style="dim", highlight=False)
    for text, query in zip(queries, encoded, strict=True):
        console.print(text, style="bold", markup=False, highlight=False)
        _print_hits(console, encoder, corpus, query, documents, k)


def _print_hits(
    console: Console, encoder: M3Encoder, corpus: Passages, query: M3Output, documents: M3Output, k: int
) -> None:
    per_mode = {mode: mode_scores(query, documents, mode)[0] for mode in encoder.modes}
    fused = fuse(per_mode, WeightedSum(*encoder.score_weights))
    for rank, i in enumerate(np.argsort(-fused, kind="stable")[:k], start=1):
        parts = "  ".join(f"{LABELS[mode]} {scores[i]:.3f}" for mode, scores in per_mode.items())
        console.print(f"{rank}. [bold]{fused[i]:.3f}[/]  [dim]{parts}[/]  ", end="", highlight=False)
        about = ", ".join(str(value) for value in corpus.metadata[i].values())
        console.print(f"{corpus.ids[i]}  {about}".rstrip(), style="cyan", markup=False, highlight=False)
        console.print(_highlighted(encoder, corpus.texts[i], query), soft_wrap=True)
    console.print()


def _highlighted(encoder: M3Encoder, text: str, query: M3Output) -> Text:
    """The text with the tokens that the query matches lexically underlined."""
    shown = Text("   " + text)
    if query.sparse is not None:
        matched = set(query.sparse[0].indices.tolist())
        for token in encoder.tokenize(text):
            if token.id in matched:
                shown.stylize("bold yellow underline", token.start + 3, token.end + 3)
    return shown
