"""`index`: a source into a collection."""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from m3core import InvalidInput, M3Encoder, MissingDependency, Mode, StoreError
from m3stores.pipeline import local
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.documents import Columns
from m3stores.pipeline.job import Job
from m3stores.pipeline.reading import sound
from m3stores.pipeline.rejects import Rejects
from m3stores.pipeline.removing import remove_others
from m3stores.pipeline.seen import Seen
from m3stores.pipeline.sources import Documents, Source
from m3stores.pipeline.summary import Summary
from m3stores.store import HybridStore
from m3stores.text import TextIndex


def index(
    source: Source,
    encoder: M3Encoder,
    store: HybridStore,
    *,
    modes: Sequence[Mode] | None = None,
    text_column: str = "text",
    id_column: str | None = None,
    encoding: str = "utf-8-sig",
    tokens: int | None = None,
    overlap: int | None = None,
    sync: bool = False,
    exact: bool = False,
    rejects: str | Path | None = None,
    batch_size: int | None = None,
    ray: str | None = None,
    show_progress: bool = False,
) -> Summary:
    """Puts a source into a collection: reads, splits, encodes and stores it, all at the same time.

    What the collection has already, with the same text and metadata, is not encoded again. So a run that was broken
    off, by `kill -9` too, is gone on with by the same call: nothing is lost, nothing is there twice, and at most
    `batch_size` passages are encoded a second time. Passages that a document no longer has are removed.

    ```python
    summary = index("docs/", M3Encoder(), QdrantStore("docs", path="./index"))
    ```

    Args:
        source: a file or a folder of JSON lines, Parquet, CSV, plain text and Markdown; a data set of `datasets`; or
            anything that gives dicts. See `m3stores.pipeline.sources`.
        encoder: of the collection, if that has records already.
        store: the collection.
        modes: what a new collection keeps; `None` means all that the model has. An old one keeps what it has.
        text_column: the column of a table with the text. A `title` goes before it; what is neither is metadata.
        id_column: the column with the id; `None` takes `_id` or `id`, or else file and line.
        encoding: of texts and CSV, such as `"gb18030"`.
        tokens: of a passage at most; see `Chunker`.
        overlap: of neighbouring passages, in tokens; see `Chunker`.
        sync: remove from the collection all that is not in the source. If anything was rejected, nothing is.
        exact: make sure in the end that the collection has exactly as many records as it must, if nobody else writes to
            it meanwhile.
        rejects: a JSON-lines file for what could not be used, with reasons; written only if there is any.
        batch_size: the most passages that are on their way, encoded and not stored yet; `None` chooses by the model.
            With `ray`, of each process.
        ray: encode in the processes of a Ray cluster, one for each GPU, or for each machine if there is none:
            `"local"` starts one on this machine, `"auto"` and `"host:port"` join one that runs. They store too where
            the collection is on a server; an embedded one is written to from here.
        show_progress: whether to show a progress bar.

    Returns:
        What was done.

    Raises:
        InvalidInput: no such source, an empty one, or an argument that cannot be used.
        CollectionMismatch: the collection is another encoder's, or has other modes than `modes`.
        MissingDependency: semantic-text-splitter, pyarrow for Parquet, or Ray, is not installed.
        StoreError: the store failed, on a full disk for instance, or the cluster, or, with `exact`, the collection has
            more or fewer records; what was stored stays.
    """
    text_index = TextIndex(encoder, store)
    kept = text_index.modes(modes)
    together = batch_size or text_index.window(kept)
    if together < local.PORTIONS:
        raise InvalidInput(f"batch_size must be at least {local.PORTIONS}, not {batch_size!r}")

    def documents() -> Documents:
        return Documents(source, Columns(text_column, id_column), encoding)

    started = time.perf_counter()
    summary = Summary()
    found, before = documents(), store.count() if exact else 0
    with closing(Seen()) as seen, closing(Rejects(summary, None if rejects is None else Path(rejects))) as rejected:
        job = Job(
            found, Chunker(encoder, tokens, overlap), encoder, store, kept, together, summary, rejected, show_progress
        )
        if ray is None:
            local.run(job, sound(found, seen, keep_ids=sync))
        else:
            try:
                from m3stores.pipeline import cluster
            except ImportError as error:
                raise MissingDependency("a cluster needs Ray: pip install 'm3-retrieval[ray]'") from error
            cluster.run(job, ray)
        if not summary.documents and not summary.rejected and (sync or found.unit == "B"):
            raise InvalidInput(f"there is nothing to index: {source} is empty")
        if sync and not summary.rejected:
            if ray is not None:  # the documents were seen elsewhere
                for _ in sound(documents(), seen, keep_ids=True):
                    pass
            summary.removed += remove_others(store, seen)
    if exact:
        _check_count(store, before, summary)
    summary.seconds = time.perf_counter() - started
    return summary


def _check_count(store: HybridStore, before: int, summary: Summary) -> None:
    """Refuses a collection that has lost records, or got others, since it had as many as `before`."""
    held, due = store.count(), before + summary.added - summary.removed
    if held != due:
        raise StoreError(
            f"collection {store.collection!r} holds {held} records and not {due}: {before} were there, "
            f"{summary.added} are new, {summary.removed} were removed. Unless another program writes to it, some are "
            "lost: index the source again, which stores what is missing"
        )
