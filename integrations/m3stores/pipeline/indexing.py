"""`index`: a source into a collection."""

from collections.abc import Sequence
from pathlib import Path

from m3core import InvalidInput, M3Encoder, Mode
from m3stores.pipeline.counting import check_count
from m3stores.pipeline.documents import Reject
from m3stores.pipeline.job import job
from m3stores.pipeline.reading import sound
from m3stores.pipeline.removing import remove_others
from m3stores.pipeline.running import run
from m3stores.pipeline.sources import Source
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
        source: a file or a folder of JSON lines, Parquet, CSV, plain text, Markdown and HTML; a data set of `datasets`;
            or anything that gives dicts. See `m3stores.pipeline.sources`.
        encoder: of the collection, if that has records already.
        store: the collection.
        modes: what a new collection keeps; `None` means all that the model has. An old one keeps what it has.
        text_column: the column of a table with the text. A `title` goes before it; what is neither is metadata.
        id_column: the column with the id; `None` takes `_id` or `id`, or else file and line.
        encoding: of texts and CSV, such as `"gb18030"`, and of pages that are not UTF-8 and do not say what they are.
        tokens: of a passage at most; see `Chunker`.
        overlap: of neighbouring passages, in tokens; see `Chunker`.
        sync: remove from the collection all that is not in the source. If anything was rejected, nothing is.
        exact: make sure in the end that the collection has exactly as many records as it must, if nobody else writes to
            it meanwhile.
        rejects: a JSON-lines file for what could not be used, with reasons; written only if there is any.
        batch_size: the most passages that are on their way, encoded and not stored yet; `None` chooses by the model.
            With `ray`, what each process encodes at once; how much is on its way in all is bounded by the memory of
            the cluster's object store, by which Ray holds readers up.
        ray: encode in the processes of a Ray cluster, one for each GPU, or for each machine if there is none:
            `"local"` starts one on this machine, `"auto"` and `"host:port"` join one that runs. They store too where
            the collection is on a server; an embedded one is written to from here.
        show_progress: whether to show a progress bar.

    Returns:
        What was done.

    Raises:
        InvalidInput: no such source, an empty one, or an argument that cannot be used.
        CollectionMismatch: the collection is another encoder's, or has other modes than `modes`.
        MissingDependency: semantic-text-splitter, pyarrow for Parquet, lxml for HTML, or Ray, is not installed.
        StoreError: the store failed, on a full disk for instance, or the cluster, or, with `exact`, the collection has
            more or fewer records; what was stored stays.
    """
    kept = TextIndex(encoder, store).modes(modes)
    before = store.count() if exact else 0
    with job(
        source,
        encoder,
        store,
        kept,
        text_column=text_column,
        id_column=id_column,
        encoding=encoding,
        tokens=tokens,
        overlap=overlap,
        rejects=rejects,
        batch_size=batch_size,
        show_progress=show_progress,
    ) as work:
        run(work, ray)
        if sync:
            if not work.summary.documents and not work.summary.rejected:
                raise InvalidInput("there is nothing in the source, and everything would be removed: call clear()")
            if ray is not None:  # the documents were seen elsewhere
                work.rejects.add(*(item for item in sound(work.documents(), work.seen) if isinstance(item, Reject)))
            if not work.summary.rejected:
                work.summary.removed += remove_others(store, work.seen)
    if exact:
        check_count(store, before, work.summary)
    return work.summary
