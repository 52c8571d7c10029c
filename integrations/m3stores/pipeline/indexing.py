"""`index`: a source into a collection."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import closing
from pathlib import Path

from tqdm.auto import tqdm

from m3core import InvalidInput, M3Encoder, Mode, Record
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.documents import Columns
from m3stores.pipeline.reading import Reading
from m3stores.pipeline.sources import Documents, Source
from m3stores.pipeline.summary import Summary
from m3stores.store import HybridStore
from m3stores.text import TextIndex

_THREADS = 2  # while what one has encoded is written, the other's texts are in the model
_PORTIONS = _THREADS + 1  # and the next ones are read


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
    rejects: str | Path | None = None,
    batch_size: int | None = None,
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
        rejects: a JSON-lines file for what could not be used, with reasons; written only if there is any.
        batch_size: the most passages that are on their way, encoded and not stored yet; `None` chooses by the model.
        show_progress: whether to show a progress bar.

    Returns:
        What was done.

    Raises:
        InvalidInput: no such source, an empty one, or an argument that cannot be used.
        CollectionMismatch: the collection is another encoder's, or has other modes than `modes`.
        MissingDependency: semantic-text-splitter, or pyarrow for Parquet, is not installed.
        StoreError: the store failed, on a full disk for instance; what was stored stays.
    """
    documents = Documents(source, Columns(text_column, id_column), encoding)
    text_index = TextIndex(encoder, store)
    kept = text_index.modes(modes)
    together = batch_size or text_index.window(kept)
    if together < _PORTIONS:
        raise InvalidInput(f"batch_size must be at least {_PORTIONS}, not {batch_size!r}")
    started = time.perf_counter()
    summary = Summary()
    reading = Reading(
        documents,
        Chunker(encoder, tokens, overlap),
        store,
        summary,
        sync=sync,
        rejects=None if rejects is None else Path(rejects),
    )

    def keep(portion: list[Record]) -> int:
        store.upsert(portion, encoder.encode_documents([record.text for record in portion], modes=kept))
        return len(portion)

    bar = tqdm(total=documents.total, unit=documents.unit, unit_scale=True, disable=not show_progress)
    with closing(reading), bar:
        for stored in _at_once(keep, _portions(reading.passages(), together // _PORTIONS)):
            summary.encoded += stored
            bar.set_postfix(encoded=summary.encoded, unchanged=summary.unchanged, refresh=False)
            bar.update(documents.done - bar.n)
        if not summary.documents and not summary.rejected and (sync or documents.unit == "B"):
            raise InvalidInput(f"there is nothing to index: {source} is empty")
        if sync:
            reading.remove_others()
    summary.seconds = time.perf_counter() - started
    return summary


def _portions(lists: Iterable[list[Record]], size: int) -> Iterator[list[Record]]:
    """The same records in lists of this size, the last one but shorter."""
    waiting: list[Record] = []
    for records in lists:
        waiting += records
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


def _at_once(keep: Callable[[list[Record]], int], portions: Iterable[list[Record]]) -> Iterator[int]:
    """What `keep` returns for each portion, in several threads; the next portion is read meanwhile, and no more."""
    with ThreadPoolExecutor(_THREADS, "m3-index") as pool:
        under_way: set[Future[int]] = set()
        for portion in portions:
            while len(under_way) == _THREADS:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            under_way.add(pool.submit(keep, portion))
        for future in as_completed(under_way):
            yield future.result()
