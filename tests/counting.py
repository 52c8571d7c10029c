"""Counting what goes through the model, and how often the event loop gets its turn."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest

from m3core.packing import Group, Pack
from m3core.passes import ForwardPass


@dataclass
class Passes:
    """Texts that were put through a model."""

    texts: int = 0


@contextmanager
def counted_passes() -> Iterator[Passes]:
    """Counts the texts in each forward pass of any encoder meanwhile."""
    passes = Passes()
    run = ForwardPass.run

    def counting(self: ForwardPass, pack: Pack, groups: Sequence[Group], between: Callable[[], object]) -> object:
        passes.texts += len(pack.lengths)
        return run(self, pack, groups, between)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ForwardPass, "run", counting)
        yield passes


@dataclass
class Ticks:
    """Turns of the event loop."""

    count: int = 0


@asynccontextmanager
async def counted_ticks() -> AsyncIterator[Ticks]:
    """Counts how often a task that sleeps for 5 ms wakes up meanwhile."""
    ticks = Ticks()

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.005)
            ticks.count += 1

    ticker = asyncio.create_task(tick())
    try:
        yield ticks
    finally:
        ticker.cancel()


async def share_of_ticks(work: Callable[[], Awaitable[object]], *, seconds: float = 0.5) -> float:
    """How many of its ticks a task that wants one every 10 ms gets while some work is done again and again."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        await work()
    elapsed = time.perf_counter() - start
    ticker.cancel()
    return ticks / (elapsed / 0.01)
