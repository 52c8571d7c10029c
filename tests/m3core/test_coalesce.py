"""Concurrent calls share forward passes: who goes when, and that each gets its own."""

import asyncio
import gc
import os
import random
import signal
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from runners import PATIENCE, Stepped, gate, job, lane, results
from tiny import ZH_EN

from m3core import InvalidInput, M3Encoder, M3Output, OutOfMemory, waiting
from m3core.packing import Pack
from m3core.passes import ForwardPass
from m3core.waiting import Job

Call = tuple[bool, list[str], tuple[str, ...] | None]


def test_an_idle_device_starts_at_once_and_what_comes_meanwhile_goes_together() -> None:
    runner = Stepped()
    with lane(runner) as line:
        jobs = [job(n) for n in range(20)]
        line.add(jobs[0])
        assert runner.begun.get(timeout=PATIENCE) == [0]
        for other in jobs[1:]:
            line.add(other)
        runner.step()
        assert sorted(runner.begun.get(timeout=PATIENCE)) == list(range(1, 20))
        runner.step()
        assert [results(j) for j in jobs] == [[n] for n in range(20)]


def test_after_a_pack_for_many_it_waits_until_as_many_are_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_PATIENCE", PATIENCE)
    runner = Stepped()
    with lane(runner) as line:
        for n in range(4):
            line.add(job(n))
        first = runner.begun.get(timeout=PATIENCE)
        runner.step(4)
        served = len(first) if len(first) == 4 else len(runner.begun.get(timeout=PATIENCE))
        for n in range(served):
            line.add(job(10 + n))
        assert len(runner.begun.get(timeout=PATIENCE)) == served > 1


def test_it_does_not_wait_long_for_those_who_do_not_come_back() -> None:
    runner = Stepped(free=True)
    with lane(runner) as line:
        for served in (5, 1, 1):
            jobs = [job(n) for n in range(served)]
            for one in jobs:
                line.add(one)
            assert [results(j) for j in jobs] == [[n] for n in range(served)]


def test_queries_go_before_documents_and_alone() -> None:
    runner = Stepped(interruptible=False)
    with lane(runner) as line:
        line.add(job(0))
        assert runner.begun.get(timeout=PATIENCE) == [0]
        line.add(job(1, 2))
        line.add(job(3, queries=True))
        line.add(job(4, queries=True))
        runner.step(4)
        assert sorted(runner.begun.get(timeout=PATIENCE)) == [3, 4]
        assert runner.begun.get(timeout=PATIENCE) == [1, 2]


def test_a_short_job_is_in_the_pack_after_those_that_wait() -> None:
    runner = Stepped()
    with lane(runner, budget=10) as line:
        long, short = job(*range(2000)), job(5000)
        line.add(long)
        assert len(runner.begun.get(timeout=PATIENCE)) == 10
        line.add(short)
        runner.step()
        assert 5000 in runner.begun.get(timeout=PATIENCE)
        runner.step(1000)
        assert results(short) == [5000]
        assert results(long) == list(range(2000))


def test_a_query_runs_between_two_layers_of_documents() -> None:
    runner = Stepped()
    with lane(runner) as line:
        documents, query, other = job(1, 2), job(3, queries=True), job(4, queries=True)
        line.add(documents)
        assert runner.begun.get(timeout=PATIENCE) == [1, 2]
        line.add(query)
        runner.step(1)
        assert runner.begun.get(timeout=PATIENCE) == [3]
        line.add(other)  # queries are not interrupted
        runner.step(2)
        assert results(query) == [3]
        assert documents.inbox.empty()
        runner.step(1)
        assert results(documents) == [1, 2]
        assert runner.begun.get(timeout=PATIENCE) == [4]


def test_documents_get_their_turn_however_many_queries_there_are() -> None:
    runner = Stepped()
    with lane(runner) as line:
        line.add(job(0, queries=True))
        assert runner.begun.get(timeout=PATIENCE) == [0]
        line.add(job(1))
        line.add(job(2, queries=True))
        runner.step()
        assert runner.begun.get(timeout=PATIENCE) == [1]
        assert runner.begun.get(timeout=PATIENCE) == [2]  # before the first layer


def test_documents_get_a_short_turn_where_queries_cannot_come_in_between() -> None:
    runner = Stepped(interruptible=False)
    with lane(runner, budget=2000) as line:
        line.add(job(0, queries=True))
        assert runner.begun.get(timeout=PATIENCE) == [0]
        line.add(job(1, 2, 3, length=250))
        line.add(job(4, queries=True))
        runner.step()
        assert runner.begun.get(timeout=PATIENCE) == [1, 2]  # 500 tokens
        runner.step()
        assert runner.begun.get(timeout=PATIENCE) == [4]
        runner.step(4)
        assert runner.begun.get(timeout=PATIENCE) == [3]


def test_queries_that_do_not_fit_beside_documents_go_after_them() -> None:
    runner = Stepped(free=True)
    run = runner.run

    def short_of_memory(pack: Pack, groups: object, between: Callable[[], object]) -> object:
        nested = len(inside) > 0
        inside.append(pack)
        try:
            if nested:
                raise OutOfMemory("the card is full")
            line.add(query) if not asked else None
            asked.append(True)
            return run(pack, groups, between)
        finally:
            inside.pop()

    inside: list[Pack] = []
    asked: list[bool] = []
    query = job(3, queries=True)
    runner.run = short_of_memory
    with lane(runner) as line:
        documents = job(1, 2)
        line.add(documents)
        assert results(documents) == [1, 2]
        assert results(query) == [3]
        assert line._budget.tokens == 100


def test_an_error_of_our_own_reaches_the_caller_and_the_next_call_works(
    m3_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with M3Encoder(m3_dir, dtype="float32", device="cpu") as encoder:
        with monkeypatch.context() as patch:
            patch.setattr(Pack, "of", lambda texts: {}["no such pack"])
            with pytest.raises(KeyError, match="no such pack"):
                encoder.encode_documents(["a"])
        assert len(encoder.encode_documents(["a"])) == 1


def test_a_stream_keeps_its_encoder(m3_dir: Path) -> None:
    windows = M3Encoder(m3_dir, dtype="float32", device="cpu").iter_encode(["a", "b", "c"], window=2)
    gc.collect()
    assert [len(output) for output in windows] == [2, 1]


def test_a_failed_call_leaves_nothing_to_the_garbage_collector(m3_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[weakref.ref[Activation]] = []

    def forward(*_: object) -> None:
        activation = Activation()
        left.append(weakref.ref(activation))
        raise ValueError("broken")

    monkeypatch.setattr(ForwardPass, "run", forward)
    with M3Encoder(m3_dir, dtype="float32", device="cpu") as encoder:
        gc.disable()
        try:
            for _ in range(3):
                with pytest.raises(ValueError, match="broken"):
                    encoder.encode_documents(["a"])
            assert [reference() for reference in left] == [None] * 3
        finally:
            gc.enable()


class Activation:
    """What a forward pass holds."""


def test_jobs_of_different_modes_share_a_pass_in_groups() -> None:
    runner = Stepped()
    with lane(runner) as line:
        line.add(job(0))
        runner.begun.get(timeout=PATIENCE)
        jobs = [job(1, 2, wants=("dense",)), job(3, wants=("dense", "sparse")), job(4, 5, wants=("dense",))]
        for one in jobs:
            line.add(one)
        runner.step(4)
        assert [results(j) for j in jobs] == [[1, 2], [3], [4, 5]]
    assert runner.wants[1] == [("dense",), ("dense", "sparse")]


def test_an_error_is_that_of_the_job_that_makes_it() -> None:
    runner = Stepped()
    runner.broken = {2}
    with lane(runner) as line:
        line.add(job(0))
        runner.begun.get(timeout=PATIENCE)
        jobs = [job(1), job(2), job(3)]
        for one in jobs:
            line.add(one)
        runner.step(1000)
        assert (results(jobs[0]), results(jobs[2])) == ([1], [3])
        with pytest.raises(ValueError, match="broken"):
            results(jobs[1])


def test_small_work_is_shared_among_devices() -> None:
    runner = Stepped()
    with lane(runner, budget=10_000, lanes=2) as line:
        whole = job(*range(10), length=100)
        line.add(whole)
        assert [len(runner.begun.get(timeout=PATIENCE)) for _ in range(2)] == [5, 5]
        runner.step(4)
        assert results(whole) == list(range(10))


def calls(number: int, seed: int) -> list[Call]:
    """Mixed kinds, lengths and modes."""
    rng = random.Random(seed)
    modes = [None, ("dense",), ("sparse",), ("dense", "multivector"), ("sparse", "multivector")]
    texts = [*ZH_EN, *(" ".join(["the me of 你"] * n) for n in range(1, 9))]
    return [(rng.random() < 0.5, rng.sample(texts, rng.randint(1, 3)), rng.choice(modes)) for _ in range(number)]


def assert_equal_to(expected: M3Output, output: M3Output, modes: tuple[str, ...] | None) -> None:
    """Up to rounding; a weight near 0 may be there or not."""
    wanted = modes or ("dense", "sparse", "multivector")
    assert output.modes == wanted
    if "dense" in wanted:
        np.testing.assert_allclose(output.dense, expected.dense, atol=1e-4)
    if "multivector" in wanted:
        for a, b in zip(output.multivector, expected.multivector, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
    if "sparse" in wanted:
        for a, b in zip(output.sparse, expected.sparse, strict=True):
            x, y = a.as_dict(), b.as_dict()
            assert all(abs(x.get(i, 0) - y.get(i, 0)) < 1e-4 for i in x.keys() | y.keys())


def serial(encoder: M3Encoder) -> Callable[[str], M3Output]:
    """What a text is made into when it is alone, each text once."""
    alone: dict[str, M3Output] = {}

    def of(text: str) -> M3Output:
        if text not in alone:
            alone[text] = encoder.encode_documents([text])
        return alone[text]

    return of


def test_64_threads_get_what_one_gets(tiny_m3: M3Encoder) -> None:
    alone = serial(tiny_m3)
    begin = threading.Barrier(64)

    def work(seed: int) -> list[M3Output]:
        begin.wait(PATIENCE)
        made = []
        for queries, texts, modes in calls(50, seed):
            encode = tiny_m3.encode_queries if queries else tiny_m3.encode_documents
            made.append(encode(texts, modes=modes))
        return made

    with ThreadPoolExecutor(64) as pool:
        everything = list(pool.map(work, range(64)))
    for seed, made in enumerate(everything):
        for (_, texts, modes), output in zip(calls(50, seed), made, strict=True):
            assert_equal_to(M3Output.concat([alone(text) for text in texts]), output, modes)


def test_threads_share_passes_of_a_real_model(mini: M3Encoder, debate_queries: list[str]) -> None:
    """In bfloat16 where the processor has it, whose rounding depends on what else is in a pack."""
    texts = debate_queries[:16]
    alone = [mini.encode_queries([text]) for text in texts]
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda text: mini.encode_queries([text]), texts * 3))
    for one, output in zip(alone * 3, made, strict=True):
        assert (one.dense * output.dense).sum() > 0.9999
        x, y = one.sparse[0].as_dict(), output.sparse[0].as_dict()
        assert all(abs(x.get(i, 0) - y.get(i, 0)) < 0.01 for i in x.keys() | y.keys())


async def test_500_tasks_get_what_one_gets_in_few_passes(tiny_m3: M3Encoder) -> None:
    alone = serial(tiny_m3)
    asked = calls(500, seed=1000)
    with gate() as passes:
        passes.open()
        made = await asyncio.gather(
            *(
                (tiny_m3.aencode_queries if queries else tiny_m3.aencode_documents)(texts, modes=modes)
                for queries, texts, modes in asked
            )
        )
        assert passes.packs.qsize() < 250
    for (_, texts, modes), output in zip(asked, made, strict=True):
        assert_equal_to(M3Output.concat([alone(text) for text in texts]), output, modes)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_query_in_between_changes_no_bit(engine: str, debate_texts: list[str]) -> None:
    """Of the documents, nor of its own."""
    with M3Encoder("m3-mini", device="cpu", engine=engine) as encoder:
        tokens = encoder._model.tokenizer.tokenize(debate_texts[:20], 64).token_ids
        documents, query = Pack.of(tokens[:18]), Pack.of(tokens[18:])
        backbone = encoder._model.scheduler._runners[0].backbone
        alone, nested = backbone.forward(documents, lambda: None), []
        together = backbone.forward(documents, lambda: nested.append(backbone.forward(query, lambda: None)))
        assert (together == alone).all()
        assert len(nested) > 2
        assert all((one == backbone.forward(query, lambda: None)).all() for one in nested)


def test_a_bad_text_fails_its_own_call_only(tiny_m3: M3Encoder) -> None:
    outcomes: Counter[str] = Counter()

    def call(n: int) -> str:
        try:
            tiny_m3.encode_queries(["the one", "ab\ud800c"] if n % 4 == 0 else ["the one"])
        except InvalidInput as error:
            return str(error)[:25]
        return "done"

    with ThreadPoolExecutor(16) as pool:
        outcomes.update(pool.map(call, range(64)))
    assert outcomes == {"done": 48, "text 1 holds a lone surro": 16}


def left_behind() -> list[Job]:
    """What is left when the threads of calls have had time to notice."""
    end = time.monotonic() + PATIENCE
    while True:
        gc.collect()
        jobs = [thing for thing in gc.get_objects() if type(thing) is Job]
        if not jobs or time.monotonic() > end:
            return jobs
        time.sleep(0.05)


async def test_a_cancelled_task_takes_its_texts_back(m3_dir) -> None:
    with M3Encoder(m3_dir, dtype="float32", device="cpu", batch_tokens=32) as encoder, gate() as passes:
        first = asyncio.create_task(encoder.aencode_documents(["the one"]))
        assert await asyncio.to_thread(passes.arrived) == 1
        tasks = [asyncio.create_task(encoder.aencode_documents(["me " * 9] * 50)) for _ in range(40)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        passes.open()
        assert len(await first) == 1
        del first, task, tasks
        assert len(await encoder.aencode_documents(["a"])) == 1
        assert passes.packs.qsize() < 3
        assert await asyncio.to_thread(left_behind) == []  # the loop, too, lets go of what was cancelled


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Where tests run in several processes, these do not hear Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupted_call_takes_its_texts_back(m3_dir) -> None:
    with M3Encoder(m3_dir, dtype="float32", device="cpu", batch_tokens=32) as encoder, gate() as passes:
        interrupter = threading.Thread(target=lambda: passes.arrived() and os.kill(os.getpid(), signal.SIGINT))
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            encoder.encode_documents(["me " * 9] * 50)
        interrupter.join()
        passes.open()
        assert len(encoder.encode_queries(["a"])) == 1
        assert passes.packs.qsize() == 1
    assert left_behind() == []


def test_progress_is_told_text_by_text(tiny_m3: M3Encoder, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_m3.encode_documents(ZH_EN * 20, show_progress=True)
    assert f"{len(ZH_EN) * 20}/{len(ZH_EN) * 20}" in capsys.readouterr().err


def test_threads_with_a_cache_get_what_one_gets(m3_dir, tiny_m3: M3Encoder, tmp_path) -> None:
    expected = tiny_m3.encode_documents(ZH_EN)
    with (
        M3Encoder(m3_dir, dtype="float32", device="cpu", cache=tmp_path / "vectors.sqlite") as encoder,
        ThreadPoolExecutor(8) as pool,
    ):
        for output in pool.map(encoder.encode_documents, [ZH_EN] * 16):
            assert_equal_to(expected, output, None)


def test_a_warm_encoder_has_run_a_full_pack(m3_dir) -> None:
    with M3Encoder(m3_dir, dtype="float32", device="cpu", batch_tokens=500) as encoder, gate() as passes:
        passes.open()
        encoder.warm_up()
        assert [passes.arrived(), passes.arrived()] == [1, 500 // encoder.max_length]
