"""A run in this process: reading, encoding and storing at the same time, in threads."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from typing import TypeVar

from tqdm.auto import tqdm

from m3core import M3Output, Record
from m3stores.pipeline.job import Job
from m3stores.pipeline.notes import Note
from m3stores.pipeline.reading import Reading, sound
from m3stores.pipeline.sources import Documents
from m3stores.pipeline.storing import encoded, settled, stored

Given = TypeVar("Given")
Told = TypeVar("Told")

_THREADS = 2  # while what one has encoded is written, the other's texts are in the model
PORTIONS = _THREADS + 1  # and the next ones are read


def run(job: Job, documents: Documents) -> None:
    """Does it.

    Args:
        job: what to do.
        documents: its source.
    """
    reading = Reading(sound(documents, job.seen), job.chunker, job.target, job.summary, job.rejects)

    def encode(texts: list[str]) -> M3Output:
        return job.encoder.encode_documents(texts, modes=job.modes)

    def keep(portion: list[Record]) -> Note:
        records, output, note = encoded(portion, encode)
        if output is not None:
            note += stored(records, output, job.target)
        return settled(note, job.target)

    with tqdm(total=documents.total, unit=documents.unit, unit_scale=True, disable=not job.show_progress) as bar:
        for note in at_once(keep, _portions(reading.passages(), job.together // PORTIONS)):
            job.count(note)
            bar.set_postfix(encoded=job.summary.encoded, unchanged=job.summary.unchanged, refresh=False)
            bar.update(documents.done - bar.n)


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


def at_once(keep: Callable[[Given], Told], portions: Iterable[Given]) -> Iterator[Told]:
    """What `keep` returns for each portion, in several threads; the next portion is read meanwhile, and no more."""
    with ThreadPoolExecutor(_THREADS, "m3-index") as pool:
        under_way: set[Future[Told]] = set()
        for portion in portions:
            while len(under_way) == _THREADS:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            under_way.add(pool.submit(keep, portion))
        for future in as_completed(under_way):
            yield future.result()
