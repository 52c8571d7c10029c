"""`m3 search`: hybrid search over a folder, in memory, or over a collection."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.text import Text

from m3cli.explaining import show, visible, write_page
from m3cli.options import (
    DEFAULT_COLLECTION,
    DEFAULT_MODEL,
    LABELS,
    CollectionOption,
    DeviceOption,
    DtypeOption,
    EndpointOption,
    RevisionOption,
    load,
    open_store,
)
from m3core import Explanation, InvalidInput, M3Encoder, M3Output
from m3core.evaluation.beir import Passages, load_corpus
from m3core.fusion import WeightedSum, ranks, shares, total
from m3core.scoring import mode_scores
from m3stores import Hit
from m3stores.adapting import made_by, visible_metadata
from m3stores.explaining import explained
from m3stores.pipeline.documents import DOCUMENT, PASSAGE


def search(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[FOLDER] QUERY...", help="A folder with corpus.jsonl (none with --store), and queries."
        ),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="Hits for each query.")] = 3,
    store: Annotated[str | None, typer.Option(help="What m3 index made, such as qdrant:./index.")] = None,
    collection: CollectionOption = DEFAULT_COLLECTION,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", envvar="M3_MODEL", help="Default: the collection's, or BAAI/bge-m3."),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    endpoint: EndpointOption = None,
    revision: RevisionOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each mode adds, and by which tokens.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write the explanations into this page.", dir_okay=False, writable=True)
    ] = None,
) -> None:
    """Rank passages of a folder or a store for each query: fused and per-mode scores, matched tokens highlighted."""
    if html is not None and not html.absolute().parent.is_dir():
        raise InvalidInput(f"{html} cannot be written: its folder must exist")
    if store is not None:
        with open_store(store, collection, new=False) as opened:
            fingerprint = opened.schema.fingerprint if opened.schema else None
            if fingerprint is None:
                raise InvalidInput(f"there is no collection {collection!r} in {store}: m3 index makes one")
            encoder = made_by(fingerprint, model=model, device=device, dtype=dtype, endpoint=endpoint)
            encoded = encoder.encode_queries(words)
            hits = opened.search(encoded, k=k, rerank="multivector" in opened.modes)
            _tell(encoder, opened.count(), words, encoded, hits, explain=explain, html=html)
        return
    folder, *queries = words
    if not queries:
        raise InvalidInput("search takes a folder and at least one query, or --store and queries")
    corpus = load_corpus(Path(folder))
    encoder = load(model or DEFAULT_MODEL, device, dtype, endpoint=endpoint, revision=revision)
    documents = encoder.encode_documents(corpus.texts, show_progress=Console(stderr=True).is_terminal)
    encoded = encoder.encode_queries(queries)
    found = [_ranked(corpus, query, documents, k) for query in encoded]
    _tell(encoder, len(corpus.ids), queries, encoded, found, explain=explain, html=html)


def _ranked(corpus: Passages, query: M3Output, documents: M3Output, k: int) -> list[Hit]:
    """The hits of one query among all documents, in memory."""
    per_mode = {mode: mode_scores(query, documents, mode)[0] for mode in documents.modes}
    parts = shares(per_mode, WeightedSum(*query.score_weights))
    fused = total(parts)
    rank = {mode: ranks(scores) for mode, scores in per_mode.items()}
    return [
        Hit(
            corpus.ids[i],
            corpus.texts[i],
            corpus.metadata[i],
            float(fused[i]),
            {mode: float(scores[i]) for mode, scores in per_mode.items()},
            {mode: int(values[i]) for mode, values in rank.items()},
            {mode: float(values[i]) for mode, values in parts.items()},
        )
        for i in np.argsort(-fused, kind="stable")[:k]
    ]


def _tell(
    encoder: M3Encoder,
    passages: int,
    queries: list[str],
    encoded: M3Output,
    hits: Sequence[list[Hit]],
    *,
    explain: bool,
    html: Path | None,
) -> None:
    reasons: list[list[Explanation]] = [[] for _ in queries]
    if explain or html is not None:
        asked = zip(queries, encoded, hits, strict=True)
        reasons = [explained(text, found, encoder, encoded=query) for text, query, found in asked]
    if html is not None:
        write_page(html, queries, hits, reasons)
    console = Console()
    console.print(f"{passages} passages, {encoder.fingerprint.model}\n", style="dim", highlight=False)
    for text, query, found, why in zip(queries, encoded, hits, reasons, strict=True):
        console.print(text, style="bold", markup=False, highlight=False)
        for rank, hit in enumerate(found, start=1):
            parts = "  ".join(f"{LABELS[mode]} {score:.3f}" for mode, score in hit.scores.items())
            console.print(f"{rank}. [bold]{hit.score:.3f}[/]  [dim]{parts}[/]  ", end="", highlight=False)
            about = f"{hit.id}  {_about(hit)}".rstrip()
            console.print(about, style="cyan", markup=False, highlight=False, soft_wrap=True)
            if explain:
                show(console, why[rank - 1])
            else:
                console.print(_highlighted(encoder, hit.text, query), soft_wrap=True)
        console.print()


def _about(hit: Hit) -> str:
    """The metadata, but for what the id says already."""
    document = hit.metadata.get(DOCUMENT, hit.id)
    shown = visible_metadata(hit.metadata).items()
    return ", ".join(str(value) for key, value in shown if key not in (DOCUMENT, PASSAGE) and value != document)


def _highlighted(encoder: M3Encoder, text: str, query: M3Output) -> Text:
    """The text with the tokens that the query matches lexically underlined."""
    shown = Text("   " + visible(text))
    if query.sparse is not None:
        matched = set(query.sparse[0].indices.tolist())
        for token in encoder.tokenize(text, quiet=True):
            if token.id in matched:
                shown.stylize("bold yellow underline", token.start + 3, token.end + 3)
    return shown
