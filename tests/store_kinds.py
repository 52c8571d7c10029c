"""Every kind of store there is: how to open a collection of it, and what it keeps of what it is given."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from m3core import Mode
from m3stores import HybridStore, QdrantStore

Open = Callable[[str], HybridStore]
"""Opens the collection of a name."""


def unique_name() -> str:
    """For a collection on a server that may hold others."""
    return f"m3-test-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class Kind:
    """A kind of store.

    Attributes:
        name: for the tests' names.
        place: given an empty folder, starts what the stores need and gives what opens collections there.
        half: the modes that are kept as float16.
        half_queries: the modes by which it searches with queries of float16.
        needs: the packages without which its tests are skipped.
        lasting: whether a collection is still there when its store was closed.
        nested: whether metadata may be any JSON, not only texts, numbers, booleans and lists of one of them.
        dense_later: whether dense vectors can be added to a collection that was made without.
    """

    name: str
    place: Callable[[Path], AbstractContextManager[Open]]
    half: tuple[Mode, ...]
    half_queries: tuple[Mode, ...]
    needs: tuple[str, ...]
    lasting: bool = True
    nested: bool = True
    dense_later: bool = True


@contextmanager
def _qdrant_on_disk(folder: Path) -> Iterator[Open]:
    yield lambda name: QdrantStore(name, path=folder)


@contextmanager
def _qdrant_temporary(folder: Path) -> Iterator[Open]:
    yield QdrantStore


@contextmanager
def _qdrant_rest(folder: Path) -> Iterator[Open]:
    from qdrant_standin import RestServer

    with RestServer(openapi=os.environ.get("M3_QDRANT_OPENAPI")) as rest:
        yield lambda name: QdrantStore(name, url=rest.url)
        assert rest.violations == []


@contextmanager
def _qdrant_grpc(folder: Path) -> Iterator[Open]:
    from qdrant_standin import RestServer, RpcServer

    with RestServer() as rest, RpcServer(rest.backend) as rpc:
        yield lambda name: QdrantStore(name, url=rest.url, prefer_grpc=True, grpc_port=rpc.port)


@contextmanager
def _qdrant_at_url(folder: Path) -> Iterator[Open]:
    yield lambda name: QdrantStore(name, url=os.environ["QDRANT_URL"], api_key=os.environ.get("QDRANT_API_KEY"))


@contextmanager
def _chroma_on_disk(folder: Path) -> Iterator[Open]:
    from m3stores.chroma import ChromaStore

    yield lambda name: ChromaStore(name, path=folder)


@contextmanager
def _chroma_temporary(folder: Path) -> Iterator[Open]:
    from m3stores.chroma import ChromaStore

    yield ChromaStore


@contextmanager
def _chroma_server(folder: Path) -> Iterator[Open]:
    from m3stores.chroma import ChromaStore

    with chroma_run(folder / "server") as url:
        yield lambda name: ChromaStore(name, url=url, sidecar=folder / "sidecar")


@contextmanager
def chroma_run(folder: Path) -> Iterator[str]:
    """A real Chroma server that keeps its data in a folder; gives its url once it answers."""
    program = shutil.which("chroma", path=str(Path(sys.executable).parent)) or "chroma"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with (folder.parent / "chroma.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder.parent)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/api/v2/heartbeat", server)
        yield url
    finally:
        server.kill()
        server.wait()


def _wait_for(url: str, server: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)


_EDGE = {"half": ("multivector",), "half_queries": ("multivector",), "needs": ("qdrant_edge", "filelock")}
_SERVED = {**_EDGE, "needs": ("qdrant_edge", "filelock", "qdrant_client")}
_CHROMA = {
    "half": ("sparse", "multivector"),
    "half_queries": (),
    "needs": ("chromadb", "filelock"),
    "nested": False,
    "dense_later": False,
}

KINDS = [
    Kind("qdrant on disk", _qdrant_on_disk, **_EDGE),
    Kind("qdrant temporary", _qdrant_temporary, **_EDGE, lasting=False),
    Kind("qdrant server, REST", _qdrant_rest, **_SERVED),
    Kind("qdrant server, gRPC", _qdrant_grpc, **_SERVED),
    Kind("chroma on disk", _chroma_on_disk, **_CHROMA),
    Kind("chroma temporary", _chroma_temporary, **_CHROMA, lasting=False),
    Kind("chroma server", _chroma_server, **_CHROMA),
]
if "QDRANT_URL" in os.environ:
    KINDS.append(Kind("qdrant server at QDRANT_URL", _qdrant_at_url, **_SERVED))
