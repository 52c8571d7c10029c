"""This process and a Ray cluster: the connection, settings that hold while it is used, and its errors as ours."""

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import PicklingError
from typing import Any

import ray
from ray.cloudpickle import CloudPickler
from ray.data import DataContext
from ray.util.client import ray as client

from m3core import InvalidInput, M3Error, StoreError, errors
from m3stores.pipeline.sources import Source

_PATIENCE = 10.0  # seconds
_PASSED_ON = 512 << 10  # bytes: minutes of work for a slow machine, a second's for a fast one
_KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, M3Error)}
_OURS = re.compile(rf"\b({'|'.join(_KINDS)}): (.+)")


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Within it Ray can be used: this process's own connection, or one that is made, and a cluster that is started.

    Raises:
        InvalidInput: there is no such cluster, or this process uses another one.
    """
    if "://" in address:
        raise InvalidInput(
            f"{address!r} is not the address of a cluster: Ray Client cannot be used. Give host:port of the cluster "
            "itself, as `ray start --head` prints it (port 6379 by default), on a machine of the cluster"
        )
    joined = ray.is_initialized()
    if joined:
        _check_joined(address)
    else:
        _join(address)
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        if not joined:
            ray.shutdown()


@contextmanager
def settled(*, progress: bool) -> Iterator[None]:
    """Within it what is made goes on in small pieces, so that all are busy from the start, and little is under way."""
    context = DataContext.get_current()
    before = context.enable_progress_bars, context.target_max_block_size
    context.enable_progress_bars, context.target_max_block_size = progress, _PASSED_ON
    try:
        yield
    finally:
        context.enable_progress_bars, context.target_max_block_size = before


@contextmanager
def named() -> Iterator[None]:
    """Errors of the cluster, as ours."""
    try:
        yield
    except (TypeError, PicklingError) as error:
        if isinstance(error, TypeError) and not str(error).startswith("Could not serialize"):
            raise
        raise InvalidInput(_unsent("something in the source")) from error
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, M3Error):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(cause, M3Error):
            raise cause from error
        said = str(error).strip()
        if ours := _OURS.findall(said):  # of a process that died of it there is only the text
            name, message = ours[-1]
            raise _KINDS[name](message) from error
        if isinstance(error, ray.exceptions.RayTaskError):  # whose text is mostly where it happened
            said = f"{type(error.cause).__name__}: {error.cause}"
        raise StoreError(f"the Ray cluster could not do its work: {said}") from error


def check_can_be_sent(source: Source) -> None:
    """Tells early what cannot be sent to the process that reads.

    Raises:
        InvalidInput: it is a generator, or holds one, a lock, an open file or the like.
    """
    if isinstance(source, Iterator):
        raise InvalidInput(_unsent("a generator"))
    if isinstance(source, str | Path | list | tuple) or type(source).__module__.startswith("datasets."):
        return  # these can, and may be large
    try:
        CloudPickler(_Nowhere()).dump(source)
    except (TypeError, PicklingError, AttributeError) as error:
        raise InvalidInput(_unsent(f"a {type(source).__name__}")) from error


def _unsent(what: str) -> str:
    return f"{what} cannot be sent to another process: give a file, a folder, a data set or a list of plain dicts"


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, content: Any) -> int:
        """Takes some bytes."""
        return memoryview(content).nbytes


def _join(address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it warns of how Ray Data itself makes its processes
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options["include_dashboard"] = False
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdecimal():
            socket.create_connection((host, int(port)), timeout=_PATIENCE).close()  # Ray itself tries for minutes
        ray.init(address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidInput(
            f"no Ray cluster can be reached at {address!r} ({error}): start one with `ray start --head`, or say 'local'"
        ) from error


def _check_joined(address: str) -> None:
    """That this process's own connection is to the cluster that is asked for; `"local"` and `"auto"` take any."""
    if client.is_connected():
        raise InvalidInput(
            "this process uses a cluster through Ray Client: end that with ray.shutdown(), and give host:port of the "
            "cluster itself"
        )
    if address in ("local", "auto"):
        return
    there = ray.get_runtime_context().gcs_address
    (host, _, port), (own, _, own_port) = address.rpartition(":"), there.rpartition(":")
    if port != own_port or not _names(host) & _names(own):
        raise InvalidInput(
            f"this process is connected to the Ray cluster at {there} already, not to {address!r}: "
            "end that with ray.shutdown(), or say ray='auto' to use it"
        )


def _names(host: str) -> set[str]:
    """The IP addresses of a host; those of this machine stand for each other."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        found = {host}
    own = ray.util.get_node_ip_address()
    return found | {own} if any(name.startswith("127.") or name == "::1" for name in found) else found
