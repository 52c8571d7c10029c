"""`LazyEncoder`: an encoder that loads when it is first needed, one for all that want the same."""

import asyncio
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Self

from m3core.cache import VectorCache
from m3core.encoder import M3Encoder
from m3core.output import MODES, M3Output, Mode, SparseVector

_HANDED_OVER = 2**28  # bytes in a cache of our own, for 50,000 texts of bge-m3, most of them on disk
_WITH_MULTIVECTORS = 2**31  # for 2,000 texts of 250 tokens


class _Shared:
    """One encoder, and who uses it."""

    def __init__(self, arguments: dict[str, Any], encoder: M3Encoder | None = None) -> None:
        self.arguments = arguments
        self.users: weakref.WeakSet[LazyEncoder] = weakref.WeakSet()
        self.encoder = encoder
        self.lock = threading.Lock()

    def wanted(self) -> set[Mode]:
        return {mode for user in self.users for mode in user.modes}

    def hands_over(self) -> bool:
        """Whether one of its users asks for what another has just had encoded."""
        users = [user for user in self.users if user.modes]
        return len({user.modes for user in users}) > 1 or any(user.follows for user in users)


class LazyEncoder:
    """Stands for an `M3Encoder`, which is loaded at most once, whichever thread asks first.

    All that stand for one of the same arguments share it. And they share its forward passes: where one of them wants
    dense vectors and another sparse ones, both are made for the text that either comes with first, and the other's wait
    in a cache, in the encoder's own or else in a temporary one. That is how a framework which asks twice gets one pass.

    Can be pickled, unlike an encoder; the copy loads its own.

    Attributes:
        modes: what this one wants; none for one that asks the encoder itself.
        follows: whether it asks for the same texts as another one does, after it.
    """

    follows = False

    def __init__(self, modes: Sequence[Mode] = ("dense",), **arguments: Any) -> None:
        """Takes what `M3Encoder` takes, by name."""
        key = tuple(sorted((name, str(v) if name == "model" else v) for name, v in arguments.items() if v is not None))
        with _REGISTRY_LOCK:
            self._shared = _REGISTRY.get(key) or _Shared(arguments)
            _REGISTRY[key] = self._shared
        self.modes = tuple(modes)
        self._shared.users.add(self)

    @classmethod
    def of(cls, encoder: M3Encoder, modes: Sequence[Mode] = ("dense",)) -> Self:
        """Stands for an encoder that is there already."""
        lazy = cls.__new__(cls)
        lazy._shared = _Shared(encoder.arguments, encoder)
        lazy.modes = tuple(modes)
        lazy._shared.users.add(lazy)
        return lazy

    def wanting(self, modes: Sequence[Mode]) -> Self:
        """Another one for the same encoder, which wants these modes of the same texts."""
        other = type(self).__new__(type(self))
        other._shared = self._shared
        other.modes = tuple(modes)
        other.follows = True
        other._shared.users.add(other)
        return other

    def get(self) -> M3Encoder:
        """The encoder.

        Raises:
            M3Error: as `M3Encoder` does.
        """
        shared = self._shared
        with shared.lock:
            if shared.encoder is None:
                shared.encoder = M3Encoder(**shared.arguments)
            if shared.encoder.cache is None and shared.hands_over():
                large = "multivector" in self._together(shared.encoder)
                shared.encoder.cache = VectorCache(max_bytes=_WITH_MULTIVECTORS if large else _HANDED_OVER)
            return shared.encoder

    async def aget(self) -> M3Encoder:
        """The encoder, loaded without blocking the event loop."""
        return await asyncio.to_thread(self.get)

    def encode(self, texts: Sequence[str], *, queries: bool = False, show_progress: bool = False) -> M3Output:
        """The representations of documents or queries, at least by the modes that this one wants.

        Raises:
            M3Error: as `M3Encoder.encode_documents` does.
        """
        encoder = self.get()
        encode = encoder.encode_queries if queries else encoder.encode_documents
        return encode(texts, modes=self._together(encoder), show_progress=show_progress)

    async def aencode(self, texts: Sequence[str], *, queries: bool = False) -> M3Output:
        """`encode` without blocking the event loop."""
        encoder = await self.aget()
        encode = encoder.aencode_queries if queries else encoder.aencode_documents
        return await encode(texts, modes=self._together(encoder))

    def _together(self, encoder: M3Encoder) -> list[Mode]:
        others = self._shared.wanted() & set(encoder.modes)
        return [mode for mode in MODES if mode in self.modes or mode in others]

    def __getstate__(self) -> dict[str, Any]:
        """With a cache on disk, the copy makes for it what the others here want."""
        modes = set(self.modes)
        if self._shared.arguments.get("cache") is not None:
            modes |= self._shared.wanted()
        return {"modes": [mode for mode in MODES if mode in modes], **self._shared.arguments}

    def __setstate__(self, arguments: dict[str, Any]) -> None:
        self.__init__(**arguments)  # type: ignore[misc]


_REGISTRY: weakref.WeakValueDictionary[tuple[tuple[str, Any], ...], _Shared] = weakref.WeakValueDictionary()
_REGISTRY_LOCK = threading.Lock()


def dense_lists(output: M3Output) -> list[list[float]]:
    """Dense vectors as frameworks want them."""
    assert output.dense is not None
    return [vector.tolist() for vector in output.dense]  # row by row, so that other threads get their turn


def sparse_lists(output: M3Output) -> list[tuple[list[int], list[float]]]:
    """Sparse vectors as frameworks want them: token ids and weights."""
    vectors: Sequence[SparseVector] = output.sparse or ()
    return [(vector.indices.tolist(), vector.values.tolist()) for vector in vectors]
