"""A run on a Ray cluster: one process reads, many split and encode, and many store where the collection is on a server.

Everything goes through Ray Data, which gives work to machines as they come, and does again what a process that died had
begun. What has been stored is known by the collection's `Keys`, so that a run which was broken off is gone on with, as
on one machine.

How much is under way is bounded by memory, not by a number of passages: Ray holds readers and encoders up when what
they have made, and nobody has taken, fills their share of the cluster's object store. A process holds a piece of what
comes in, about half a million characters or one document, and the passages of it; an encoder those of one `batch_size`
with their representations, which it gives on by thirds, in parts of 8 MiB.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, Dataset
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasink, Datasource, ReadTask
from tqdm.auto import tqdm

from m3core import InvalidInput, Mode
from m3core.lazy import LazyEncoder
from m3stores.keys import Keys
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.connecting import check_can_be_sent, connected, named, settled
from m3stores.pipeline.documents import Document, Reject
from m3stores.pipeline.job import Job
from m3stores.pipeline.local import PORTIONS
from m3stores.pipeline.notes import Note
from m3stores.pipeline.reading import sound
from m3stores.pipeline.seen import Seen
from m3stores.pipeline.sources import Documents
from m3stores.pipeline.steps import documents_table, encode, split, write
from m3stores.pipeline.tables import Origin
from m3stores.store import HybridStore

_DOCUMENTS, _TEXT = 256, 512 << 10  # at most in what is read at once; characters, or else one document
_BYTES = 8 << 20  # of representations that go on at once
_LITTLE = 0.25  # of a processor, for what is not encoding; the scheduler adds them up
_TRACE = 0.001  # of what only this machine has
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
    check_can_be_sent(job.source)
    origin = Origin(job.encoder.score_weights, job.encoder.fingerprint)
    server = job.target if isinstance(job.target, HybridStore) and job.target.remote else None
    with connected(address), named(), settled(progress=job.show_progress and server is not None):
        passages = _passages(job, documents, origin)
        if server is not None:
            sink = StoreSink(server, origin)
            passages.write_datasink(sink, concurrency=_WRITERS, ray_remote_args={"num_cpus": _LITTLE})
            for note in sink.notes:
                job.count(note)
            return
        with tqdm(unit="passage", unit_scale=True, desc="Indexing", disable=not job.show_progress) as bar:
            for block in passages.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for part in _parts(block):
                    note = write(part, job.target, origin)
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
        documents = ray.put(self._documents)  # a list of files may be large, and a task is not to be
        unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None)
        return [ReadTask(lambda: document_tables(ray.get(documents)), unknown)]


def document_tables(documents: Documents) -> Iterator[pa.Table]:
    """Sound documents as they are read, a few at a time."""
    some: list[Document | Reject] = []
    size = 0
    for item in sound(documents, Seen()):
        some.append(item)
        size += len(item.text) if isinstance(item, Document) else 0
        if len(some) == _DOCUMENTS or size >= _TEXT:
            yield documents_table(some)
            some, size = [], 0
    if some:
        yield documents_table(some)


class Splitting:
    """`split`, for `map_batches`."""

    def __init__(self, chunker: Chunker, keys: Keys) -> None:
        self._chunker, self._keys = chunker, keys

    def __call__(self, documents: pa.Table) -> pa.Table:
        """See `split`."""
        return split(documents, self._chunker, self._keys)


class Encoding:
    """`encode`, for `map_batches`; with an encoder of its own, on so many threads."""

    def __init__(self, encoder: LazyEncoder, modes: Sequence[Mode], origin: Origin, threads: int) -> None:
        torch.set_num_threads(threads)
        self._encoder, self._modes = encoder.get(), modes
        if self._encoder.fingerprint != origin.fingerprint:
            raise InvalidInput(f"another model lies here, {self._encoder.fingerprint}, not {origin.fingerprint}")

    def __call__(self, passages: pa.Table) -> Iterator[pa.Table]:
        """See `encode`; in portions, so that what is encoded is not long on its way, and in parts of these."""
        rows = max(1, -(-passages.num_rows // PORTIONS))
        for first in range(0, passages.num_rows, rows):
            yield from _packed(encode(passages.slice(first, rows), self._encoder, self._modes))


class StoreSink(Datasink[list[Note]]):
    """Writes encoded passages into a collection on a server, from as many processes as there are.

    Attributes:
        notes: what was done, when it is done.
    """

    def __init__(self, target: HybridStore, origin: Origin) -> None:
        """Takes the target, which it closes in the processes that write, and what made the representations."""
        self._target, self._origin = target, origin
        self.notes: list[Note] = []

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> list[Note]:
        """Stores some, into this process's own copy of the store."""
        with self._target as target:
            return [
                replace(write(part, target, self._origin), ends=())  # a run has too many of them for one process
                for block in blocks
                for part in _parts(block)
            ]

    def on_write_complete(self, write_result: Any) -> None:
        """Takes the notes."""
        self.notes = [note for notes in write_result.write_returns for note in notes]


def _passages(job: Job, source: Documents, origin: Origin) -> Dataset:
    """Encoded passages that are not there yet, and notes."""
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    here = nodes[ray.get_runtime_context().get_node_id()]
    arguments = job.encoder.arguments
    encoders, threads, needs = encoders_on(list(nodes.values()), gpus=not is_for_cpus(arguments))
    documents: Dataset = ray.data.read_datasource(
        DocumentSource(source),
        override_num_blocks=1,
        num_cpus=_LITTLE if here.get("CPU") else 0,
        resources={name: _TRACE for name in here if name.startswith("node:")},
    )
    return documents.map_batches(
        Splitting,
        fn_constructor_kwargs={"chunker": job.chunker, "keys": job.target.keys()},
        batch_size=None,  # as they come: Ray would put large documents together to reach a number
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=encoders),
        num_cpus=_LITTLE,
    ).map_batches(
        Encoding,
        fn_constructor_kwargs={
            "encoder": LazyEncoder((), **to_send(arguments)),
            "modes": list(job.modes),
            "origin": origin,
            "threads": torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else threads,
        },
        batch_size=job.together,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=encoders),
        **needs,
    )


def encoders_on(nodes: Sequence[Mapping[str, float]], *, gpus: bool) -> tuple[int, int, dict[str, Any]]:
    """How many processes encode, on how many threads, and what each of them needs.

    Args:
        nodes: the resources of each.
        gpus: whether GPUs are to be used, if there are any.

    Returns:
        The number, the threads, and what Ray shall keep for each: a GPU, or a machine but for one of its processors,
        where the machine is of the size that the most processors belong to. Larger ones take several, smaller ones
        none. That one processor is for the other processes, which leave most of it: the encoder has a thread there too.
    """
    if gpus and (found := sum(int(has.get("GPU", 0)) for has in nodes)):
        return found, 1, {"num_gpus": 1, "num_cpus": _LITTLE}
    sizes = [int(has["CPU"]) for has in nodes if has.get("CPU", 0) >= 1] or [1]
    size = max(sizes, key=lambda size: (size * sizes.count(size), size))
    return sum(one // size for one in sizes), size, {"num_cpus": size - 1 or _LITTLE}


def to_send(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An encoder's arguments as they mean the same on another machine; the best device there is not said."""
    sent = dict(arguments) | {"cache": None, "device": "cpu" if is_for_cpus(arguments) else None}
    if Path(sent["model"]).is_dir():
        sent["model"] = str(Path(sent["model"]).absolute())
    if sent.get("cache_folder") is not None:
        folder = Path(sent["cache_folder"])
        sent["cache_folder"] = str(folder if folder.parts[:1] == ("~",) else folder.absolute())
    return sent


def is_for_cpus(arguments: Mapping[str, Any]) -> bool:
    """Whether an encoder of these arguments was meant for CPUs, or cannot run elsewhere."""
    device = arguments["device"]
    devices = set(device) if isinstance(device, list) else {device}
    return devices == {"cpu"} or arguments["engine"] == "openvino" or arguments["dtype"] == "int8"


def _packed(table: pa.Table) -> Iterator[pa.Table]:
    """A table as rows of parts of it, of at most so many bytes or one row, which Ray takes as they are."""
    rows = max(1, table.num_rows * _BYTES // max(1, table.nbytes))
    for first in range(0, table.num_rows, rows):
        file = pa.BufferOutputStream()
        with pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table.slice(first, rows))
        yield pa.table({"part": pa.array([file.getvalue().to_pybytes()], pa.large_binary())})


def _parts(block: pa.Table) -> Iterator[pa.Table]:
    """What was packed into it."""
    for part in block.column("part") if block.num_rows else ():
        yield pa.ipc.open_stream(part.as_buffer()).read_all()
