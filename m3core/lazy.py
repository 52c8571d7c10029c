"""`LazyEncoder`: an encoder that loads when it is first needed."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from m3core.encoder import M3Encoder
from m3core.output import M3Output


class LazyEncoder:
    """Holds the arguments of an `M3Encoder`, and loads it at most once, whichever thread asks first.

    Can be pickled, unlike an encoder; the copy loads its own.
    """

    def __init__(self, **arguments: Any) -> None:
        """Takes what `M3Encoder` takes, by name."""
        self._arguments = arguments
        self._encoder: M3Encoder | None = None
        self._lock = threading.Lock()

    def get(self) -> M3Encoder:
        """The encoder.

        Raises:
            M3Error: as `M3Encoder` does.
        """
        with self._lock:
            if self._encoder is None:
                self._encoder = M3Encoder(**self._arguments)
            return self._encoder

    async def aget(self) -> M3Encoder:
        """The encoder, loaded without blocking the event loop."""
        return await asyncio.to_thread(self.get) if self._encoder is None else self._encoder

    def dense(self, texts: Sequence[str], *, queries: bool = False, show_progress: bool = False) -> list[list[float]]:
        """Dense vectors as lists, as frameworks want them, of documents or queries."""
        encoder = self.get()
        encode = encoder.encode_queries if queries else encoder.encode_documents
        return _lists(encode(texts, modes=["dense"], show_progress=show_progress))

    async def adense(self, texts: Sequence[str], *, queries: bool = False) -> list[list[float]]:
        """`dense` without blocking the event loop."""
        encoder = await self.aget()
        encode = encoder.aencode_queries if queries else encoder.aencode_documents
        return _lists(await encode(texts, modes=["dense"]))

    def __getstate__(self) -> dict[str, Any]:
        return self._arguments

    def __setstate__(self, arguments: dict[str, Any]) -> None:
        self.__init__(**arguments)  # type: ignore[misc]


def _lists(output: M3Output) -> list[list[float]]:
    assert output.dense is not None
    vectors: list[list[float]] = output.dense.tolist()
    return vectors
