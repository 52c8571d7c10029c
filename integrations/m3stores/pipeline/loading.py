"""`load`: encoded passages into a collection. Nothing is encoded, so that it takes no model and no GPU."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
from tqdm.auto import tqdm

from m3core import InvalidInput, Mode
from m3stores.pipeline.counting import check_count
from m3stores.pipeline.documents import Reject
from m3stores.pipeline.local import at_once
from m3stores.pipeline.notes import Note
from m3stores.pipeline.parts import opened, origin_of_all, parts_of
from m3stores.pipeline.rejects import Rejects
from m3stores.pipeline.storing import settled, stored
from m3stores.pipeline.summary import Summary
from m3stores.pipeline.tables import columns_of, output_of, records_of
from m3stores.store import HybridStore
from m3stores.text import window


def load(
    folder: str | Path,
    store: HybridStore,
    *,
    modes: Sequence[Mode] | None = None,
    exact: bool = False,
    rejects: str | Path | None = None,
    show_progress: bool = False,
) -> Summary:
    """Stores what `encode` wrote.

    What the collection has already, with the same text and metadata, is passed over, so that a run which was broken off
    is gone on with by the same call.

    Args:
        folder: of Parquet files.
        store: the collection.
        modes: which of the representations; `None` means those that the collection keeps, or else all.
        exact: as of `index`, and so is `rejects`.
        rejects: see there.
        show_progress: whether to show a progress bar.

    Returns:
        What was done; `encoded` are the passages that were stored.

    Raises:
        InvalidInput: there is no such folder, or a file in it cannot be read.
        CollectionMismatch: the collection is another encoder's, or has other modes.
        StoreError: the store failed; what was stored stays.
    """
    started = time.perf_counter()
    summary, before = Summary(), store.count() if exact else 0
    paths = parts_of(Path(folder))
    origin, held, total = origin_of_all(paths)
    kept = tuple(modes or store.modes or held)
    if missing := [mode for mode in kept if mode not in held]:
        raise InvalidInput(f"{folder} has no {', '.join(missing)} representations; it has {', '.join(held)}")
    if origin.fingerprint is not None:
        store.check_encoder(origin.fingerprint)
    rows = window(origin.fingerprint, kept)

    def keep(table: pa.Table) -> Note:
        try:
            comparison = store.compare(records_of(table))
        except InvalidInput as error:  # one of them is nothing for this store, or there twice
            if len(table) == 1:
                (record,) = records_of(table)
                return Note(rejects=[Reject(record.id, str(error))])
            return sum((keep(table.slice(row, 1)) for row in range(len(table))), Note())
        differing = {record.id for record in comparison.differing}
        here = [row for row, record_id in enumerate(table.column("_id").to_pylist()) if record_id in differing]
        note = Note(passages=len(table), unchanged=len(table) - len(here), added=comparison.new)
        if here:
            note += stored(comparison.differing, output_of(table.take(here), origin), store)
        return settled(note, store)

    rejected = Rejects(summary, None if rejects is None else Path(rejects))
    with closing(rejected), tqdm(total=total, unit="passage", unit_scale=True, disable=not show_progress) as bar:
        for note in at_once(keep, _tables(paths, columns_of(kept), rows)):
            summary.count(note)
            rejected.add(*note.rejects)
            bar.update(note.passages + len(note.rejects))
    if exact:
        check_count(store, before, summary)
    summary.seconds = time.perf_counter() - started
    return summary


def _tables(paths: Sequence[Path], columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    for path in paths:
        with opened(path) as file:
            for batch in file.iter_batches(rows, columns=list(columns)):
                yield pa.Table.from_batches([batch])
