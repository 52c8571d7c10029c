"""A process for each device, that holds the model there; what a lane puts in comes back as arrays."""

import atexit
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context, process
from multiprocessing.connection import Connection
from traceback import format_exc
from typing import Any
from weakref import WeakSet

from m3core.errors import EncoderClosed, InvalidInput, WorkerDied, WorkerWarning
from m3core.packing import Group, Pack, PackOutput
from m3core.passes import ForwardPass, Source, Traits
from m3core.waiting import CLOSED

_CONTEXT = get_context("spawn")  # a fork would inherit locks, and no use of CUDA survives it
_PATIENCE = 5.0  # seconds for a process to end by itself
_CHILDREN: set[Any] = getattr(process, "_children", set())  # which a process ends with itself, even if it was forked
_ENDED = (EOFError, OSError)  # what a pipe says when there is nobody at its other end


def start_workers(source: Source, devices: Sequence[str]) -> "list[Worker]":
    """Loads a model on each of some devices, on all at the same time.

    Raises:
        InvalidInput: no devices, or one that is none.
        M3Error: as `M3Encoder` does.
        WorkerDied: a process ended before it had loaded the model.
    """
    if not devices or not all(isinstance(device, str) for device in devices):
        raise InvalidInput(f"device must be a name such as 'cuda:0' or a list of such names, not {devices!r}")
    workers = [Worker(source, device, processes=len(devices)) for device in devices]
    try:
        for worker in workers:
            worker.await_loaded()
    except BaseException:
        for worker in workers:
            worker.close()
        raise
    return workers


class Worker:
    """A `Runner` in a process of its own, which is replaced when it dies.

    Attributes:
        traits: of the model there; known once it is loaded.
    """

    interruptible = ahead = False
    traits: Traits

    def __init__(self, source: Source, device: str, *, processes: int) -> None:
        """Starts the process.

        Args:
            source: what to load there.
            device: where.
            processes: how many share the machine's cores, if that is a CPU.
        """
        self._arguments = (source, device, processes)
        self._changing = threading.RLock()  # reentrant, as an encoder may be collected and closed while it is held
        self._closed = False
        self._start()

    def await_loaded(self) -> None:
        """Waits until the model is loaded, and raises what loading it raises there."""
        try:
            answer = self._pipe.recv()
        except _ENDED:
            raise WorkerDied(
                f"the process for device {self._device} {self._end()} while it loaded the model. It starts by spawn, "
                "which imports the main module again: put what the main script does under "
                "if __name__ == '__main__', and see that memory suffices for one model on each device"
            ) from None
        self.traits = _value(answer)

    def run(self, pack: Pack, groups: Sequence[Group], between: Callable[[], object]) -> Callable[[], list[PackOutput]]:
        """See `Runner.run`.

        Raises:
            WorkerDied: the process died, and so did another one in its place, over the same pack.
        """
        try:
            answer = self._ask(pack, groups)
        except _ENDED:
            warning = (
                f"process {self._process.pid} for device {self._device} {self._end()}; another one takes its place"
            )
            with suppress(WorkerWarning):  # where warnings are errors, they cannot be raised in anybody's call here
                warnings.warn(warning, WorkerWarning, stacklevel=2)
            answer = self._ask_another(pack, groups)
        outputs: list[PackOutput] = _value(answer)
        return lambda: outputs

    def close(self) -> None:
        """Ends the process, also while it works."""
        with self._changing:
            self._closed = True
            self._process.terminate()
            self._gone()

    @property
    def _device(self) -> str:
        return self._arguments[1]

    def leave(self) -> None:
        """Lets go of the process in a forked child, whose it is not."""
        _CHILDREN.discard(self._process)
        self._pipe.close()

    def _ask(self, pack: Pack, groups: Sequence[Group]) -> Any:
        self._pipe.send((pack, groups))
        return self._pipe.recv()

    def _ask_another(self, pack: Pack, groups: Sequence[Group]) -> Any:
        with self._changing:
            if not self._closed:
                self._start()
        self.await_loaded()
        try:
            return self._ask(pack, groups)
        except _ENDED:
            raise WorkerDied(
                f"the process for device {self._device} {self._end()} over the same texts as the one before it. "
                "If the system ended it for lack of memory (SIGKILL), lower batch_tokens or use fewer devices; "
                "otherwise try these texts with a single device, which shows the error itself"
            ) from None

    def _start(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        _WORKERS.add(self)
        theirs.close()  # so that the pipe ends with the process

    def _gone(self) -> None:
        """Waits until the process has ended, and sees to it that it does."""
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _end(self) -> str:
        """How the process ended by itself."""
        if self._closed:
            raise EncoderClosed(CLOSED)
        self._gone()
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


_WORKERS: WeakSet[Worker] = WeakSet()


@atexit.register  # later than multiprocessing's own, so it comes before that, which ends processes without a word to us
def _close_all(process: int = os.getpid()) -> None:
    if os.getpid() == process:
        for worker in list(_WORKERS):
            worker.close()


def _leave_all() -> None:
    for worker in _WORKERS:
        worker.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)


def _value(answer: Any) -> Any:
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _serve(pipe: Connection, source: Source, device: str, processes: int) -> None:
    """What the process does: load, and then answer until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one ends the others
    with pipe:
        try:
            model = _loaded(source, device, processes)
        except BaseException as error:
            _send(pipe, error)
            return
        pipe.send(model.traits)
        while True:
            try:
                pack, groups = pipe.recv()
            except _ENDED:
                return
            try:
                pipe.send(model.run(pack, groups, int)())
            except Exception as error:
                _send(pipe, error)


def _loaded(source: Source, device: str, processes: int) -> ForwardPass:
    import torch

    model = ForwardPass.load(source, device)
    if model.traits.device == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    return model


def _send(pipe: Connection, error: BaseException) -> None:
    error.add_note(f"In process {os.getpid()}:\n{format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    pipe.send(error)
