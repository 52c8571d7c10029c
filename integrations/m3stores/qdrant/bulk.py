"""Bulk loads on a server: the graph of the dense vectors is built once, when they are all there."""

import time
from typing import Any, Protocol

from tqdm import tqdm

from m3core import StoreError
from m3stores.qdrant.calls import Calls, NotFound
from m3stores.qdrant.server_models import ServerModels

_GREENS = 3  # in a row: a server begins with its work a moment after it was given
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds


class Call(Protocol):
    """Calls a client's method for the collection."""

    async def __call__(self, method: str, **arguments: Any) -> Any:
        """What it returns."""


class BulkLoad:
    """Puts the graph of a collection off, and makes up for that.

    The former setting is noted in the collection's metadata before anything is changed, and the note goes when all is
    as it was: after a process was killed between, the next load still finds the setting that is to be put back.
    """

    def __init__(self, collection: str, call: Call, calls: Calls, models: ServerModels) -> None:
        """Asks nothing yet.

        Args:
            collection: its name.
            call: for its calls.
            calls: for pauses.
            models: in the client's classes.
        """
        self._name, self._call, self._calls, self._models = collection, call, calls, models
        self._note: dict[str, Any] | None = None

    async def begin(self) -> None:
        """Gives a graph up, if there are a collection and dense vectors."""
        info = await self._info()
        edges = None if info is None else self._models.edges(info)
        if edges is None:
            return
        own, _ = edges
        if self._models.deferred(info) is None:  # else another load goes on, or was killed
            await self._call("update_collection", metadata=self._models.deferral(own))
            info = await self._info()
        self._note = None if info is None else self._models.deferred(info)
        if self._note is None:
            raise StoreError(f"collection {self._name!r} has lost its metadata: bulk_load needs Qdrant 1.16 or later")
        if own != 0:
            await self._call("update_collection", vectors_config=self._models.with_edges(0))

    async def end(self) -> None:
        """Puts the former setting back, if another load has not done so.

        Where the vectors had none of their own, they get the collection's as theirs: a server merges settings, so that
        none can be taken away. The graph is the same.
        """
        info = await self._info()
        edges = None if info is None else self._models.edges(info)
        if edges is None:
            return
        mine, self._note = self._note, None
        note = self._models.deferred(info) or (mine if edges[0] == 0 else None)  # another load that ended just when
        if note is None:  # this one began may have removed it
            return
        former = edges[1] if note["m"] is None else note["m"]
        await self._call("update_collection", vectors_config=self._models.with_edges(former))
        await self._call("update_collection", metadata=self._models.no_deferral())

    async def built(self, timeout: float, show_progress: bool) -> None:
        """Waits until the server has nothing left to do.

        Args:
            timeout: in seconds.
            show_progress: whether to show a bar, of vectors that are in an index.

        Raises:
            StoreError: the server has failed, or has not come to an end in time.
        """
        end, pause, greens = time.monotonic() + timeout, _FIRST_PAUSE, 0
        with tqdm(unit="vector", unit_scale=True, desc="Building indexes", disable=not show_progress) as bar:
            while (info := await self._info()) is not None:
                self._check(info)
                bar.update((info.indexed_vectors_count or 0) - bar.n)
                greens = greens + 1 if info.status.value == "green" else 0
                if greens == _GREENS:
                    return
                if time.monotonic() > end:
                    raise StoreError(
                        f"Qdrant has not built the indexes of collection {self._name!r} in {timeout:g} seconds: all "
                        "records are there and its settings are as before, and the server goes on building"
                    )
                if info.status.value == "grey":
                    await self._call("update_collection", optimizers_config=self._models.awakening())
                await self._calls.pause(pause)
                pause = min(2 * pause, _LONGEST_PAUSE) if not greens else _FIRST_PAUSE

    def _check(self, info: Any) -> None:
        if (failure := getattr(info.optimizer_status, "error", None)) is not None or info.status.value == "red":
            raise StoreError(
                f"Qdrant could not build the indexes of collection {self._name!r}: {failure or 'its status is red'}. "
                "All records are there and its settings are as before: look at the server's log, and at its memory and "
                "disk"
            )

    async def _info(self) -> Any:
        try:
            return await self._call("get_collection")
        except NotFound:  # nothing was written, or it was dropped
            return None
