"""A run in this process: reading, encoding and storing at the same time, in threads."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait

from tqdm.auto import tqdm

from m3core import Record
from m3stores.pipeline.documents import Document, Reject
from m3stores.pipeline.job import Job
from m3stores.pipeline.reading import Reading

_THREADS = 2  # while what one has encoded is written, the other's texts are in the model
PORTIONS = _THREADS + 1  # and the next ones are read


def run(job: Job, documents: Iterator[Document | Reject]) -> None:
    """Does it.

    Args:
        job: what to do.
        documents: its documents that can be split.
    """
    reading = Reading(documents, job.chunker, job.store, job.summary, job.rejects)

    def keep(portion: list[Record]) -> int:
        output = job.encoder.encode_documents([record.text for record in portion], modes=job.modes)
        job.store.upsert(portion, output)
        return len(portion)

    total, unit = job.documents.total, job.documents.unit
    with tqdm(total=total, unit=unit, unit_scale=True, disable=not job.show_progress) as bar:
        for stored in _at_once(keep, _portions(reading.passages(), job.together // PORTIONS)):
            job.summary.encoded += stored
            bar.set_postfix(encoded=job.summary.encoded, unchanged=job.summary.unchanged, refresh=False)
            bar.update(job.documents.done - bar.n)


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
