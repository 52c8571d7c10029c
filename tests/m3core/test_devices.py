"""One encoder on several devices, each with a process of its own."""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.util import _exit_function
from pathlib import Path

import numpy as np
import pytest
from processes import forks, in_a_fork
from tiny import ZH_EN

from m3core import EncoderClosed, InvalidInput, M3Encoder, WorkerDied, WorkerWarning
from m3core.lazy import LazyEncoder
from m3core.workers import _WORKERS, Worker


@pytest.fixture(scope="module")
def two(m3_dir: Path) -> Iterator[M3Encoder]:
    with M3Encoder(m3_dir, device=["cpu", "cpu"], dtype="float32", batch_tokens=512) as encoder:
        yield encoder


def test_results_come_in_order_over_two_devices(two: M3Encoder, tiny_m3: M3Encoder) -> None:
    texts = [f"{text} {n}" for n in range(100) for text in ZH_EN]
    output, expected = two.encode_documents(texts), tiny_m3.encode_documents(texts)
    np.testing.assert_allclose(output.dense, expected.dense, atol=1e-5)
    for a, b in zip(output.multivector, expected.multivector, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert [s.indices.tolist() for s in output.sparse] == [s.indices.tolist() for s in expected.sparse]
    assert [t.weight for t in two.token_weights("the me")] == pytest.approx(
        [t.weight for t in tiny_m3.token_weights("the me")], abs=1e-5
    )
    assert two.fingerprint == tiny_m3.fingerprint
    assert (two.device, two.dtype) == ("cpu, cpu", "float32")
    two.warm_up()


def test_both_devices_work_on_one_job(two: M3Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = set()
    run = Worker.run
    monkeypatch.setattr(Worker, "run", lambda self, *rest: workers.add(self) or run(self, *rest))
    two.encode_documents(["the meaning of it"] * 2000)
    assert len(workers) == 2


def test_threads_share_the_devices(two: M3Encoder, tiny_m3: M3Encoder) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda n: two.encode_queries([f"the {n}"], modes=["dense"]), range(64)))
    expected = tiny_m3.encode_queries([f"the {n}" for n in range(64)], modes=["dense"]).dense
    np.testing.assert_allclose(np.concatenate([m.dense for m in made]), expected, atol=1e-5)


def test_texts_that_end_two_processes_fail(two: M3Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Worker._ask

    def killed(self: Worker, *rest: object) -> object:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        return ask(self, *rest)

    monkeypatch.setattr(Worker, "_ask", killed)
    with (
        pytest.warns(WorkerWarning),
        pytest.raises(WorkerDied, match=r"device cpu was ended by SIGKILL over the same texts.*lower batch_tokens"),
    ):
        two.encode_documents(["a"])


def test_processes_that_ended_are_replaced(two: M3Encoder, tiny_m3: M3Encoder) -> None:
    one, other = (worker._process for worker in two._model.scheduler._runners)
    one.kill()
    two._model.scheduler._runners[1]._pipe.close()  # as when this process were gone
    for process in (one, other):
        process.join(20)
        assert not process.is_alive()
    texts = ZH_EN * 100
    with pytest.warns(WorkerWarning, match=r"device cpu .* (SIGKILL|code 0); another one takes its place"):
        output = two.encode_documents(texts)
    np.testing.assert_allclose(output.dense, tiny_m3.encode_documents(texts).dense, atol=1e-5)
    assert {worker._process for worker in two._model.scheduler._runners}.isdisjoint({one, other})


def test_what_cannot_be_loaded_is_said_at_once(m3_dir: Path) -> None:
    with pytest.raises(InvalidInput, match="device 'gpu' cannot be used here"):
        M3Encoder(m3_dir, device=["gpu"])
    for devices in ([], [None], [0]):
        with pytest.raises(InvalidInput, match="device must be a name such as 'cuda:0' or a list of such names"):
            M3Encoder(m3_dir, device=devices)


def test_closing_ends_the_processes_and_the_calls(m3_dir: Path) -> None:
    encoder = M3Encoder(m3_dir, device=["cpu"], dtype="float32", batch_tokens=64)
    begun = threading.Event()
    texts = ["the meaning of it and of you " * 3] * 50_000
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        ask = Worker._ask
        patch.setattr(Worker, "_ask", lambda self, *rest: begun.set() or ask(self, *rest))
        call = pool.submit(encoder.encode_documents, texts)
        assert begun.wait(20)
        process = encoder._model.scheduler._runners[0]._process
        encoder.close()
        with pytest.raises(EncoderClosed):
            call.result(20)
    assert not process.is_alive()


def test_a_process_that_does_not_listen_is_ended_too(m3_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3core.workers._PATIENCE", 0.2)
    encoder = M3Encoder(m3_dir, device=["cpu"], dtype="float32")
    (worker,) = [worker for worker in _WORKERS if worker is encoder._model.scheduler._runners[0]]
    os.kill(worker._process.pid, signal.SIGSTOP)
    call = ThreadPoolExecutor(1).submit(encoder.encode_documents, ["a"])
    encoder.close()
    with pytest.raises(EncoderClosed):
        call.result(20)
    assert not worker._process.is_alive()


@forks
def test_a_forked_child_leaves_the_processes_alone(two: M3Encoder) -> None:
    assert in_a_fork(_exit_function) == "None"  # as at the end of a program
    assert len(two.encode_documents(ZH_EN)) == len(ZH_EN)  # without a warning of a process that died


def test_components_with_the_same_list_share_an_encoder(two: M3Encoder) -> None:
    gc.collect()
    of_two = LazyEncoder.of(two)
    assert of_two.get() is two
    assert (
        LazyEncoder((), **two.arguments)._shared.key
        == LazyEncoder((), **{**two.arguments, "device": ("cpu", "cpu")})._shared.key
    )
