"""The end of an encoder: closed, collected, forked, or with its process."""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import forks, in_a_fork
from runners import PATIENCE, gate

from m3core import EncoderClosed, M3Encoder
from m3core.lazy import LazyEncoder

CLOSED = r"was closed; load another one with M3Encoder"


def load(folder: Path, **arguments: object) -> M3Encoder:
    return M3Encoder(folder, dtype="float32", device="cpu", **arguments)


def own_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("m3-") and thread.is_alive()}


async def test_calls_after_closing_fail_at_once(m3_dir: Path) -> None:
    with load(m3_dir) as encoder:
        encoder.encode_queries(["a"])
        stream = encoder.iter_encode(["a", "b"], window=1)
        next(stream)
    assert encoder.closed
    encoder.close()
    for call in (
        lambda: encoder.encode_documents(["a"]),
        lambda: encoder.encode_queries([]),
        lambda: encoder.iter_encode(["a"]),
        lambda: next(stream),
        lambda: encoder.token_weights("a"),
        encoder.warm_up,
    ):
        with pytest.raises(EncoderClosed, match=CLOSED):
            call()
    for call in (encoder.aencode_documents, encoder.aencode_queries):
        with pytest.raises(EncoderClosed, match=CLOSED):
            await call(["a"])


def test_calls_that_wait_while_it_closes_fail(m3_dir: Path) -> None:
    encoder = load(m3_dir, batch_tokens=64)
    with ThreadPoolExecutor(9) as pool, gate() as passes:
        calls = [pool.submit(encoder.encode_documents, ["me " * 9] * 50) for _ in range(8)]
        passes.arrived()
        closing = pool.submit(encoder.close)
        done = [call.exception(PATIENCE) for call in calls if call is not calls[0]]
        passes.open()
        closing.result(PATIENCE)
        done.append(calls[0].exception(PATIENCE))
    assert {type(error) for error in done} == {EncoderClosed}


async def test_tasks_that_wait_while_it_closes_fail(m3_dir: Path) -> None:
    encoder = load(m3_dir, batch_tokens=64)
    with gate() as passes:
        tasks = [asyncio.create_task(encoder.aencode_documents(["me " * 9] * 50)) for _ in range(100)]
        await asyncio.to_thread(passes.arrived)
        closing = asyncio.create_task(asyncio.to_thread(encoder.close))
        passes.open()
        await closing
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(error) for error in done} == {EncoderClosed}


def test_a_closed_encoder_lets_go_of_the_model_and_its_threads(m3_dir: Path) -> None:
    before = own_threads()
    encoder = load(m3_dir)
    asyncio.run(encoder.aencode_queries(["a"]))
    assert own_threads() - before
    weights = weakref.ref(encoder._model.scheduler._runners[0].backbone)
    threads = own_threads() - before
    encoder.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    del threads, thread
    gc.collect()
    assert weights() is None
    assert "cpu" in repr(encoder)


def test_an_encoder_that_nobody_uses_ends_its_threads(m3_dir: Path) -> None:
    before = own_threads()
    encoder = load(m3_dir)
    asyncio.run(encoder.aencode_documents(["a"]))
    threads = own_threads() - before
    assert threads
    gone = weakref.ref(encoder)
    del encoder
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


async def test_an_encoder_is_closed_behind_async_with(m3_dir: Path) -> None:
    async with load(m3_dir) as encoder:
        await encoder.aencode_queries(["a"])
    assert encoder.closed


@forks
def test_a_forked_child_is_told_to_load_its_own(m3_dir: Path) -> None:
    encoder = load(m3_dir)
    encoder.encode_queries(["a"])
    for call in (
        lambda: encoder.encode_queries(["a"]),
        lambda: asyncio.run(encoder.aencode_documents(["a"])),
        lambda: encoder.token_weights("a"),
    ):
        assert "EncoderClosed this encoder belongs to the process that this one was forked from" in in_a_fork(call)
    assert in_a_fork(lambda: (encoder.closed, encoder.close())) == "(True, None)"
    assert len(encoder.encode_queries(["a"])) == 1


@forks
def test_a_lazy_encoder_loads_again_behind_a_fork_and_behind_closing(m3_dir: Path) -> None:
    lazy = LazyEncoder(("dense",), model=m3_dir, dtype="float32", device="cpu", max_length=33)
    first = lazy.get()
    assert in_a_fork(lambda: lazy.get() is not first and not lazy.get().closed) == "True"
    first.close()
    second = lazy.get()
    assert len(lazy.encode(["a"])) == 1
    assert second is not first
    assert LazyEncoder(("sparse",), model=m3_dir, dtype="float32", device="cpu", max_length=33).get() is second


def test_one_for_an_encoder_that_was_closed_loads_its_like(m3_dir: Path) -> None:
    encoder = load(m3_dir, max_length=34)
    lazy = LazyEncoder.of(encoder)
    assert lazy.get() is encoder
    encoder.close()
    assert lazy.get() is LazyEncoder.of(encoder).get() is not encoder
    assert lazy.get().max_length == 34


def test_an_interpreter_ends_whatever_its_encoders_do(m3_dir: Path) -> None:
    """One is idle, one is busy for a thread, and one for a task of a loop that nobody runs any more."""
    script = f"""
import asyncio, threading
from m3core import M3Encoder
idle, busy, forgotten = (M3Encoder({str(m3_dir)!r}, device="cpu", batch_tokens=64) for _ in range(3))
long = ["the meaning of it and of you " * 3] * 20_000
idle.encode_queries(["a"])
threading.Thread(target=busy.encode_documents, args=(long,), daemon=True).start()
busy.encode_queries(["b"])
loop = asyncio.new_event_loop()
task = loop.create_task(forgotten.aencode_documents(long))
loop.run_until_complete(forgotten.aencode_queries(["b"]))
print("last line")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "last line\n"), done.stderr[-2000:]
