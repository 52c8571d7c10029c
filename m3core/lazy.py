"""`LazyEncoder`: an encoder that loads when it is first needed, one for all that want the same."""

import asyncio
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Self

from m3core.cache import VectorCache
from m3core.encoder import M3Encoder
from m3core.output import MODES, M3Output, Mode, SparseVector

_HANDED_OVER = 2**28  # bytes in a cache of our own, for 50,000 texts of bge-m3, most of them on disk
_WITH_MULTIVECTORS = 2**31  # for 2,000 texts of 250 tokens

_Key = tuple[tuple[str, Any], ...]


def shared_encoder(**arguments: Any) -> M3Encoder:
    """The encoder of these arguments of `M3Encoder`: one that is in use, or a new one."""
    return LazyEncoder((), **arguments).get()


class LazyEncoder:
    """Stands for an `M3Encoder`, which is loaded at most once, whichever thread asks first.

    All that stand for one of the same arguments share it. And they share its forward passes: where one of them wants
    dense vectors and another sparse ones, both are made for the text that either comes with first, and the other's wait
    in a cache, in the encoder's own or else in a temporary one. That is how a framework which asks twice gets one pass.

    Can be pickled, unlike an encoder; the copy loads its own, as does a forked child, and whoever asks after the
    encoder was closed. A copy in this process shares it.

    Attributes:
        modes: what this one wants; none for one that asks the encoder itself.
        follows: whether it asks for the same texts as another one does, after it, and wants of `modes` what there is.
    """

    modes: tuple[Mode, ...]
    follows: bool
    _shared: "_Shared"

    def __init__(self, modes: Sequence[Mode] = ("dense",), **arguments: Any) -> None:
        """Takes what `M3Encoder` takes, by name."""
        key = _key(arguments)
        with _LOCK:
            shared = _REGISTRY.get(key) or _Shared(key, arguments)
            _REGISTRY[key] = shared
        self._join(shared, modes)

    @classmethod
    def of(cls, encoder: M3Encoder, modes: Sequence[Mode] = ("dense",)) -> Self:
        """Stands for an encoder that is there already."""
        with _LOCK:
            shared = _OF_ENCODERS.get(id(encoder))
            if shared is None or not shared.holds(encoder):
                shared = _Shared(_key(encoder.arguments), encoder.arguments, encoder)
            _OF_ENCODERS[id(encoder)] = shared
        return cls._of(shared, modes)

    @classmethod
    def _of(cls, shared: "_Shared", modes: Sequence[Mode], follows: bool = False) -> Self:
        lazy = cls.__new__(cls)
        lazy._join(shared, modes, follows)
        return lazy

    def _join(self, shared: "_Shared", modes: Sequence[Mode], follows: bool = False) -> None:
        self.modes, self.follows, self._shared = tuple(modes), follows, shared
        shared.add(self)

    def wanting(self, modes: Sequence[Mode]) -> Self:
        """Another one for the same encoder, which wants these modes of the same texts, as far as the model has them."""
        return self._of(self._shared, modes, follows=True)

    def get(self) -> M3Encoder:
        """The encoder.

        Raises:
            M3Error: as `M3Encoder` does.
        """
        return self._shared.get()

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
        own = set() if self.follows else set(self.modes)
        return [mode for mode in MODES if mode in own or (mode in encoder.modes and mode in self._shared.wanted())]

    def __copy__(self) -> Self:
        """A copy in this process."""
        return self._of(self._shared, self.modes, self.follows)

    def __deepcopy__(self, memo: object) -> Self:
        """The same."""
        return self.__copy__()

    def __getstate__(self) -> dict[str, Any]:
        """With a cache on disk, the copy makes for it what the others here want."""
        modes = set(self.modes)
        if self._shared.arguments.get("cache") is not None:
            modes |= self._shared.wanted()
        return {"modes": [mode for mode in MODES if mode in modes], **self._shared.arguments}

    def __setstate__(self, arguments: dict[str, Any]) -> None:
        self.__init__(**arguments)  # type: ignore[misc]


class _Shared:
    """One encoder, and who uses it."""

    def __init__(self, key: _Key, arguments: dict[str, Any], encoder: M3Encoder | None = None) -> None:
        self.key = key
        self.arguments = arguments
        self._encoder = encoder
        self._users: weakref.WeakSet[LazyEncoder] = weakref.WeakSet()
        self.renew_locks()
        self._lent: VectorCache | None = None

    def renew_locks(self) -> None:
        """Makes new ones in a forked child, where nobody would open those that another thread holds."""
        self._loading, self._changing = threading.Lock(), threading.Lock()

    def add(self, user: LazyEncoder) -> None:
        with self._changing:
            self._users.add(user)

    def wanted(self) -> set[Mode]:
        return {mode for user in self._all() for mode in user.modes}

    def get(self) -> M3Encoder:
        with self._loading:
            if self._encoder is None or self._encoder.closed:
                with _LOCK:
                    loaded = _LOADED.get(self.key)
                if loaded is None or loaded.closed:
                    loaded = M3Encoder(**self.arguments)
                    with _LOCK:
                        _LOADED[self.key] = loaded
                self._encoder = loaded
            self._lend(self._encoder)
            return self._encoder

    def holds(self, encoder: M3Encoder) -> bool:
        return self._encoder is encoder

    def _all(self) -> list[LazyEncoder]:
        with self._changing:
            return list(self._users)

    def _lend(self, encoder: M3Encoder) -> None:
        """Gives the encoder a temporary cache while one of its users asks for what another has just had encoded."""
        users = [user for user in self._all() if user.modes]
        needed = len({user.modes for user in users}) > 1 or any(user.follows for user in users)
        if needed and encoder.cache is None:
            large = "multivector" in encoder.modes and "multivector" in self.wanted()
            self._lent = VectorCache(max_bytes=_WITH_MULTIVECTORS if large else _HANDED_OVER)
            encoder.cache = self._lent
            weakref.finalize(self, _take_back, weakref.ref(encoder), self._lent)
        elif not needed and self._lent is not None:
            _take_back(weakref.ref(encoder), self._lent)
            self._lent = None


def _take_back(encoder: "weakref.ref[M3Encoder]", lent: VectorCache) -> None:
    held = encoder()
    if held is not None and held.cache is lent:
        held.cache = None  # which removes it when no call uses it any more


def _key(arguments: dict[str, Any]) -> _Key:
    """The same for the same encoder, whether a default is given or left out."""
    given = {name: str(value) if name == "model" else value for name, value in arguments.items()}
    if isinstance(given.get("device"), list):
        given["device"] = tuple(given["device"])
    given.pop("local_files_only", None)  # once it is loaded, that is all the same
    return tuple(sorted((name, value) for name, value in given.items() if value not in (None, "auto")))


_LOCK = threading.RLock()  # of the three below; what they lose may be lost while it is held
_REGISTRY: weakref.WeakValueDictionary[_Key, _Shared] = weakref.WeakValueDictionary()
_OF_ENCODERS: weakref.WeakValueDictionary[int, _Shared] = weakref.WeakValueDictionary()
_LOADED: weakref.WeakValueDictionary[_Key, M3Encoder] = weakref.WeakValueDictionary()


def _renew_locks() -> None:
    global _LOCK
    _LOCK = threading.RLock()
    for shared in {*_REGISTRY.values(), *_OF_ENCODERS.values()}:
        shared.renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def dense_lists(output: M3Output) -> list[list[float]]:
    """Dense vectors as frameworks want them."""
    assert output.dense is not None
    return [vector.tolist() for vector in output.dense]  # row by row, so that other threads get their turn


def sparse_lists(output: M3Output) -> list[tuple[list[int], list[float]]]:
    """Sparse vectors as frameworks want them: token ids and weights."""
    vectors: Sequence[SparseVector] = output.sparse or ()
    return [(vector.indices.tolist(), vector.values.tolist()) for vector in vectors]
