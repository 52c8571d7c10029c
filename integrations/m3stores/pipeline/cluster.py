"""A run on a Ray cluster: one process reads, many split and encode, and many store where the collection is on a server.

Everything goes through Ray Data, which holds readers up while encoders are busy, gives work to machines as they come,
and does again what a process that died had begun. What has been stored is known by the collection's `Keys`, so that a
run which was broken off is gone on with, as on one machine.
"""

import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasink, Datasource, ReadTask
from tqdm.auto import tqdm

from m3core import InvalidInput, M3Error, Mode, StoreError
from m3core.lazy import LazyEncoder
from m3stores.keys import Keys
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.job import Job, Target
from m3stores.pipeline.notes import Note
from m3stores.pipeline.reading import sound
from m3stores.pipeline.seen import Seen
from m3stores.pipeline.sources import Documents
from m3stores.pipeline.steps import documents_table, encode, split, write
from m3stores.pipeline.tables import Origin

_DOCUMENTS, _BYTES = 256, 8 << 20  # at most in what goes from one process to the next
_LITTLE = 0.25  # of a processor, for what is not encoding; the scheduler adds them up
_TRACE = 0.001  # of what only this machine has
_LEAST = 2  # processors that Ray must think there are, so that one may encode beside the others
_PATIENCE = 10.0  # seconds
_WRITERS = 4  # streams to a server


def run(job: Job, documents: Documents, address: str) -> None:
    """Does it.

    Args:
        job: what to do. `together` are the passages that a process encodes at once.
        documents: its source.
        address: of the cluster; see `index`.

    Raises:
        InvalidInput: there is no such cluster, or the source cannot be sent to it.
        StoreError: it failed.
    """
    if isinstance(job.source, Iterator):
        raise InvalidInput("a generator cannot be sent to another process: give a file, a folder, a list or a data set")
    origin = Origin(job.encoder.score_weights, job.encoder.fingerprint)
    with _connected(address), _named(), _settled(progress=job.show_progress and job.target.remote):
        passages = _passages(job, documents, origin)
        if job.target.remote:
            sink = StoreSink(job.target, origin)
            passages.write_datasink(sink, concurrency=_WRITERS, ray_remote_args={"num_cpus": _LITTLE})
            for note in sink.notes:
                job.count(note)
            return
        with tqdm(unit="passage", unit_scale=True, disable=not job.show_progress) as bar:
            for table in passages.iter_batches(batch_size=None, batch_format="pyarrow"):
                note = write(table, job.target, origin)
                job.count(note)
                bar.set_postfix(encoded=job.summary.encoded, unchanged=job.summary.unchanged, refresh=False)
                bar.update(note.encoded + note.unchanged)


class DocumentSource(Datasource):
    """A source as Ray Data reads it: in one process, on the machine that the files are on."""

    def __init__(self, documents: Documents) -> None:
        """Takes a source that can be pickled."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._documents = documents

    def estimate_inmemory_data_size(self) -> None:
        """Nobody knows."""

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """One."""
        return [ReadTask(self._tables, BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None))]

    def _tables(self) -> Iterator[pa.Table]:
        items = sound(self._documents, Seen())
        while some := list(islice(items, _DOCUMENTS)):
            yield documents_table(some)


class Splitting:
    """`split`, for `map_batches`."""

    def __init__(self, chunker: Chunker, keys: Keys) -> None:
        self._chunker, self._keys = chunker, keys

    def __call__(self, documents: pa.Table) -> pa.Table:
        """See `split`."""
        return split(documents, self._chunker, self._keys)


class Encoding:
    """`encode`, for `map_batches`; with an encoder of its own."""

    def __init__(self, encoder: LazyEncoder, modes: Sequence[Mode], origin: Origin) -> None:
        self._encoder, self._modes = encoder.get(), modes
        if self._encoder.fingerprint != origin.fingerprint:
            raise InvalidInput(f"another model lies here, {self._encoder.fingerprint}, not {origin.fingerprint}")

    def __call__(self, passages: pa.Table) -> pa.Table:
        """See `encode`."""
        return encode(passages, self._encoder, self._modes)


class StoreSink(Datasink[list[Note]]):
    """Writes encoded passages into a collection on a server, from as many processes as there are.

    Attributes:
        notes: what was done, when it is done.
    """

    def __init__(self, target: Target, origin: Origin) -> None:
        """Takes the target, and what made the representations."""
        self._target, self._origin = target, origin
        self.notes: list[Note] = []

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> list[Note]:
        """Stores some."""
        return [write(block, self._target, self._origin) for block in blocks if block.num_rows]

    def on_write_complete(self, write_result: Any) -> None:
        """Takes the notes."""
        self.notes = [note for notes in write_result.write_returns for note in notes]


def _passages(job: Job, source: Documents, origin: Origin) -> Dataset:
    """Encoded passages that are not there yet, and notes."""
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    here = nodes[ray.get_runtime_context().get_node_id()]
    documents: Dataset = ray.data.read_datasource(
        DocumentSource(source),
        override_num_blocks=1,
        num_cpus=_LITTLE,
        resources={name: _TRACE for name in here if name.startswith("node:")},
    ).repartition(target_num_rows_per_block=_DOCUMENTS)
    encoders, needs = _encoders(list(nodes.values()))
    arguments = dict(job.encoder.arguments)
    if Path(arguments["model"]).is_dir():
        arguments["model"] = str(Path(arguments["model"]).absolute())
    if "num_gpus" in needs:
        arguments["device"] = None  # the one that Ray gives
    documents = documents.map_batches(
        Splitting,
        fn_constructor_kwargs={"chunker": job.chunker, "keys": job.target.keys()},
        batch_size=_DOCUMENTS,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=encoders),
        num_cpus=_LITTLE,
    )
    return documents.map_batches(
        Encoding,
        fn_constructor_kwargs={
            "encoder": LazyEncoder((), **arguments),
            "modes": list(job.modes),
            "origin": origin,
        },
        batch_size=job.together,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=encoders),
        **needs,
    )


def _encoders(resources: Sequence[Mapping[str, float]]) -> tuple[int, dict[str, Any]]:
    """How many processes encode, and what each of them needs: a GPU, or a machine but for one of its processors."""
    if gpus := int(sum(has.get("GPU", 0) for has in resources)):
        return gpus, {"num_gpus": 1, "num_cpus": _LITTLE}
    processors = [has["CPU"] for has in resources if has.get("CPU", 0) >= 1]
    return max(1, len(processors)), {"num_cpus": max(1, int(min(processors, default=1)) - 1)}


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Within it Ray can be used: this process's own connection, or one that is made, and a cluster that is started."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"include_dashboard": False, "num_cpus": max(_LEAST, os.cpu_count() or 1)}
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdecimal():
            socket.create_connection((host, int(port)), timeout=_PATIENCE).close()  # Ray itself tries for minutes
        ray.init(address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidInput(
            f"no Ray cluster can be reached at {address!r} ({error}): start one with `ray start --head`, or say 'local'"
        ) from error
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        ray.shutdown()


@contextmanager
def _settled(*, progress: bool) -> Iterator[None]:
    """Within it what is made goes on in small pieces, so that all are busy from the start, and little is under way."""
    context = DataContext.get_current()
    before = context.enable_progress_bars, context.target_max_block_size
    context.enable_progress_bars, context.target_max_block_size = progress, _BYTES
    try:
        yield
    finally:
        context.enable_progress_bars, context.target_max_block_size = before


@contextmanager
def _named() -> Iterator[None]:
    """Errors of the cluster, as ours."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, M3Error):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(cause, M3Error):
            raise cause from error
        raise StoreError(f"the Ray cluster could not do its work: {error}") from error
