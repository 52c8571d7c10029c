"""Packs are started before those before them are done, where a device works by itself; and how results come from it."""

import gc
import time
from pathlib import Path
from queue import Empty

import numpy as np
import pytest
import torch
from runners import PATIENCE, Stepped, job, lane, results
from tiny import ZH_EN

from m3core import EncoderClosed, M3Encoder, OutOfMemory
from m3core.backbones import Linear, transfer
from m3core.heads import Heads
from m3core.packing import Group, Pack
from m3core.passes import ForwardPass
from m3core.waiting import Job

MOMENT = 0.05  # seconds in which nothing happens


def card(**options: bool) -> Stepped:
    return Stepped(interruptible=False, ahead=True, **options)


def nothing_begins(runner: Stepped) -> None:
    with pytest.raises(Empty):
        runner.begun.get(timeout=MOMENT)


def test_one_pack_is_started_behind_the_one_under_way() -> None:
    runner = card()
    with lane(runner, budget=2) as line:
        documents = job(1, 2, 3, 4, 5, 6)
        line.add(documents)
        assert [runner.begun.get(timeout=PATIENCE) for _ in range(2)] == [[1, 2], [3, 4]]
        nothing_begins(runner)
        runner.step()
        assert runner.begun.get(timeout=PATIENCE) == [5, 6]
        assert documents.inbox.get(timeout=PATIENCE).members == [0, 1]
        runner.step(4)
        assert [documents.inbox.get(timeout=PATIENCE).members for _ in range(2)] == [[2, 3], [4, 5]]


def test_the_last_pack_does_not_wait_for_another() -> None:
    runner = card(free=True)
    with lane(runner) as line:
        for number in range(3):
            one = job(number)
            line.add(one)
            assert results(one) == [number]


def test_a_query_goes_behind_the_documents_under_way_and_others_gather_behind_it() -> None:
    runner = card()
    with lane(runner) as line:
        line.add(job(1, queries=True))
        assert runner.begun.get(timeout=PATIENCE) == [1]
        line.add(job(2, queries=True))
        line.add(job(3, queries=True))
        nothing_begins(runner)
        runner.step()
        assert sorted(runner.begun.get(timeout=PATIENCE)) == [2, 3]
        line.add(job(4))
        line.add(job(5, queries=True))
        runner.step()
        assert runner.begun.get(timeout=PATIENCE) == [4]
        assert runner.begun.get(timeout=PATIENCE) == [5]


def test_documents_go_behind_queries_under_way() -> None:
    runner = card()
    with lane(runner, budget=4) as line:
        line.add(job(0))
        assert runner.begun.get(timeout=PATIENCE) == [0]
        line.add(job(1, queries=True))
        line.add(job(2, 3, 4, 5))
        line.add(job(6, queries=True))
        runner.step()
        assert sorted(runner.begun.get(timeout=PATIENCE)) == [1, 6]
        assert runner.begun.get(timeout=PATIENCE) == [2, 3, 4, 5]


def test_an_error_that_shows_late_is_that_of_the_job_that_makes_it() -> None:
    runner = card()
    runner.broken = {2}
    with lane(runner) as line:
        line.add(job(0))
        runner.begun.get(timeout=PATIENCE)
        jobs = [job(1), job(2), job(3), job(4, queries=True)]
        for one in jobs:
            line.add(one)
        runner.step(1000)
        assert [results(jobs[n]) for n in (0, 2, 3)] == [[1], [3], [4]]
        with pytest.raises(ValueError, match="broken"):
            results(jobs[1])
        later = job(5)
        line.add(later)
        assert results(later) == [5]


def test_a_lack_of_memory_that_shows_late_lowers_the_budget() -> None:
    runner = card(free=True)
    run = runner.run

    def short_of_memory(pack: Pack, *rest: object) -> object:
        outputs = run(pack, *rest)

        def late() -> object:
            if len(pack.token_ids) > 300:
                raise OutOfMemory("the card is full")
            return outputs()

        return late

    runner.run = short_of_memory
    with lane(runner, budget=1000) as line:
        documents = job(*range(20), length=100)
        line.add(documents)
        assert results(documents) == list(range(20))
        assert line._budget.tokens < 1000


def test_nobody_waits_for_ever_for_a_pack_that_is_under_way_when_it_closes() -> None:
    runner = card()
    with lane(runner, budget=1) as line:
        documents = job(1, 2, 3)
        line.add(documents)
        assert [runner.begun.get(timeout=PATIENCE) for _ in range(2)] == [[1], [2]]
        line.close()
        runner.step(1000)
        with pytest.raises(EncoderClosed):
            results(documents)


@pytest.fixture
def as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward passes on a CPU whose results are waited for later, as those of a card are."""
    monkeypatch.setattr(ForwardPass, "ahead", True)
    monkeypatch.setattr(ForwardPass, "interruptible", False)


@pytest.mark.usefixtures("as_on_a_card")
def test_an_encoder_that_goes_ahead_gives_the_same(m3_dir: Path, tiny_m3: M3Encoder) -> None:
    texts = [f"{text} {n}" for n in range(40) for text in ZH_EN]
    expected = tiny_m3.encode_documents(texts)
    with M3Encoder(m3_dir, dtype="float32", device="cpu", batch_tokens=100) as encoder:
        output = encoder.encode_documents(texts)
    np.testing.assert_allclose(output.dense, expected.dense, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(output.multivector), np.concatenate(expected.multivector), atol=1e-5)


@pytest.mark.usefixtures("as_on_a_card")
def test_nothing_is_kept_of_what_was_under_way(m3_dir: Path) -> None:
    with M3Encoder(m3_dir, dtype="float32", device="cpu", batch_tokens=100) as encoder:
        encoder.encode_documents(ZH_EN * 20)
        end = time.monotonic() + PATIENCE
        while jobs() and time.monotonic() < end:
            gc.collect()
        assert not jobs()


def jobs() -> int:
    return sum(type(thing) is Job for thing in gc.get_objects())


def test_results_come_through_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card is played by this machine."""

    class OnCard(torch.Tensor):
        is_cuda = True

    class Event:
        def record(self, stream: str) -> None:
            done.append(f"record {stream}")

        def synchronize(self) -> None:
            done.append("synchronize")

    def empty(shape: torch.Size, *, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        assert pin_memory
        return new(shape, dtype=dtype)

    done: list[str] = []
    new = torch.empty
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"on {device}")
    made = [torch.arange(3.0).as_subclass(OnCard), torch.ones(2, 2, dtype=torch.float16).as_subclass(OnCard)]
    arrive = transfer.download(made)
    assert done == ["record on cpu"]
    arrays = arrive()
    assert done == ["record on cpu", "synchronize"]
    assert [array.tolist() for array in arrays] == [[0, 1, 2], [[1, 1], [1, 1]]]
    assert arrays[1].dtype == np.float16


def test_each_group_gets_its_own_of_what_is_made_together() -> None:
    torch.manual_seed(0)
    states, pack = torch.randn(9, 4), Pack(np.arange(10, 19), np.array([2, 3, 1, 3]))
    sparse, multivector = torch.nn.Linear(4, 1), torch.nn.Linear(4, 2)
    heads = Heads("mean", False, Linear(1, sparse), Linear(2, multivector), frozenset())
    wants = [("dense",), ("dense", "sparse", "multivector"), ("weights",)]
    groups = [Group(wants[0], 1), Group(wants[1], 2), Group(wants[2], 1)]
    together = heads.apply(states, pack, groups)()
    pieces, parts = states.split([2, 4, 3]), pack.split([1, 2, 1])
    for output, group, piece, part in zip(together, groups, pieces, parts, strict=True):
        (alone,) = heads.apply(piece, part, [group])()
        for name in ("dense", "sparse", "multivector", "weights"):
            own, expected = getattr(output, name), getattr(alone, name)
            if expected is None:
                assert own is None
            elif name == "sparse":
                assert [s.as_dict() for s in own] == [pytest.approx(s.as_dict()) for s in expected]
            else:
                for a, b in zip(own, expected, strict=True):
                    np.testing.assert_allclose(a, b, atol=1e-6)
    for row, text in zip(together[1].dense, pieces[1].split([3, 1]), strict=True):
        np.testing.assert_allclose(row, text.mean(0), atol=1e-6)
