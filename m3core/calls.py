"""The calls of an encoder: checked, answered from the cache or by the model, awaited, and warned about."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice

from tqdm.auto import tqdm

from m3core.cache import VectorCache
from m3core.checks import check_texts, checked_length
from m3core.errors import InvalidInput, UnsupportedMode
from m3core.model import Advance, Call, Model
from m3core.output import MODES, Fingerprint, M3Output, Mode
from m3core.pool import DaemonPool
from m3core.recall import Recall
from m3core.tokenizer import TextCounts

_AWAITED = 128  # at once, of each kind; the others wait for a thread


class Calls:
    """What any number of threads and tasks ask of one encoder.

    Attributes:
        cache: where representations are kept, or `None`. May be set at any time.
    """

    def __init__(
        self, model: Model, fingerprint: Fingerprint, languages: Sequence[str], cache: VectorCache | None
    ) -> None:
        """Takes what an encoder consists of. Languages are those that the vocabulary covers."""
        self.cache = cache
        self._model, self._fingerprint, self._languages = model, fingerprint, languages
        self._documents: DaemonPool[M3Output] = DaemonPool("m3-documents", _AWAITED)
        self._queries: DaemonPool[M3Output] = DaemonPool("m3-queries", _AWAITED)
        self._process = os.getpid()

    def checked(self, modes: Iterable[Mode] | None, max_length: int | None, *, queries: bool = False) -> Call:
        """What is asked for; `None` is all modes, and the encoder's maximum length.

        Raises:
            EncoderClosed: the encoder was closed, or belongs to another process.
            InvalidInput: no modes, or a length that is none.
            UnsupportedMode: the model does not have one of the modes.
        """
        self._model.scheduler.check_open()  # also where no forward pass is needed
        return Call(self._checked_modes(modes), checked_length(max_length, self._fingerprint.max_length), queries)

    def encode(self, texts: list[str], call: Call, show_progress: bool = False) -> M3Output:
        """The representations of texts that `check_texts` passed; warns whoever calls the encoder."""
        with _bar(len(texts), show_progress) as advance:
            output, counts = self._represent(texts, call, advance)
        counts.warn(call.max_length, self._languages, stacklevel=4)
        return output

    async def aencode(self, texts: list[str], call: Call) -> M3Output:
        """`encode` on a thread of the encoder's own."""
        pool = self._queries if call.queries else self._documents
        try:
            return await asyncio.wrap_future(pool.submit(partial(self.encode, texts, call)))
        except asyncio.CancelledError:
            call.inbox.end(asyncio.CancelledError())
            raise

    def windows(
        self, texts: Iterator[object], call: Call, window: int, *, total: int | None, show_progress: bool
    ) -> Iterator[M3Output]:
        """The representations of texts from any source, so many at a time; `total` of them, if that is known."""
        counted = TextCounts()
        with _bar(total, show_progress) as advance:
            while batch := list(islice(texts, window)):
                output, counts = self._represent(check_texts(batch, first=counted.texts), call, advance)
                counted += counts
                yield output
        counted.warn(call.max_length, self._languages, stacklevel=4)

    def end(self, patience: float | None = None) -> None:
        """Ends what belongs to an encoder, which is closed or gone. Not in a forked child, whose it is not.

        Args:
            patience: seconds to wait for its threads; `None` is as long as it takes.
        """
        if os.getpid() == self._process:
            self._model.scheduler.close(patience)
            self._documents.close()
            self._queries.close()

    def _represent(self, texts: list[str], call: Call, advance: Advance) -> tuple[M3Output, TextCounts]:
        """Of texts, from the cache as far as it has them. The counts of those know nothing but them."""
        cache = self.cache
        if cache is None:
            return self._model.represent(texts, call, self._fingerprint, advance)
        counted = TextCounts()

        def encode(missing: list[str]) -> M3Output:
            nonlocal counted
            advance(len(texts) - len(missing))
            output, counted = self._model.represent(missing, call, self._fingerprint, advance)
            return output

        recall = Recall(cache, self._fingerprint, self._model.traits[0].dtype, call.max_length)
        return recall.output(texts, call.modes, encode), replace(counted, texts=len(texts))

    def _checked_modes(self, modes: Iterable[Mode] | None) -> tuple[Mode, ...]:
        there = self._fingerprint.modes
        if modes is None:
            return there
        wanted = [] if isinstance(modes, str) or not isinstance(modes, Iterable) else list(modes)
        if not wanted or not set(wanted) <= set(MODES):
            raise InvalidInput(f"modes must be a list of some of {', '.join(map(repr, MODES))}, not {modes!r}")
        for mode in wanted:
            if mode not in there:
                raise UnsupportedMode(
                    f"{self._fingerprint.model} has no {mode} representation; it has {', '.join(there)}. "
                    "BAAI/bge-m3 and m3-mini have all three"
                )
        return tuple(mode for mode in MODES if mode in wanted)


@contextmanager
def _bar(texts: int | None, shown: bool) -> Iterator[Advance]:
    """A progress bar, which is made only where it is shown: each starts a thread, and waits for the others."""
    if not shown:
        yield int
        return
    with tqdm(total=texts, unit="text") as bar:
        yield bar.update
