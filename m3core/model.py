"""`Model`: a model in memory. Tokenizer and forward passes together: texts in, representations out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from m3core.checkpoint import Checkpoint
from m3core.coalesce import Scheduler
from m3core.output import Fingerprint, FloatArray, M3Output, Mode, SparseVector
from m3core.packing import TokenBudget
from m3core.portions import by_portions
from m3core.tokenizer import M3Tokenizer, TextCounts, TokenWeight
from m3core.waiting import Inbox, Job, Share

Advance = Callable[[int], object]
"""Is told how many more texts are done."""

_WARM_UP_TOKENS = 512
_PORTION, _PORTION_CHARACTERS = 1024, 1 << 18  # texts to tokenize at once: several packs, some tens of milliseconds


@dataclass(frozen=True)
class Call:
    """What somebody wants of some texts.

    Attributes:
        modes: which representations.
        max_length: where to cut, in tokens.
        queries: whether they go before documents.
        inbox: where the one who calls waits; an error that is put there ends the call.
    """

    modes: tuple[Mode, ...]
    max_length: int
    queries: bool = False
    inbox: Inbox = field(default_factory=Inbox)


class Model:
    """A loaded checkpoint, on one device or several. Threads may share it, and their texts share its forward passes.

    Attributes:
        tokenizer: its own.
        traits: one for each device.
        scheduler: what puts texts through it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | list[str] | tuple[str, ...] | None,
        engine: str,
        dtype: str,
        attention: str,
        normalize: bool | None,
        mcls: int | None,
        batch_tokens: int | None,
    ) -> None:
        """Loads it. Arguments as of `M3Encoder`."""
        from m3core.passes import ForwardPass, Source

        self.tokenizer = M3Tokenizer.from_directory(checkpoint.path, mcls)  # before the weights, which take longer
        source = Source(checkpoint, self.tokenizer.special_ids, engine, dtype, attention, normalize, mcls)
        if isinstance(device, list | tuple):
            from m3core.workers import start_workers

            runners: Sequence[Any] = start_workers(source, device)
        else:
            # In a thread of its own, with which the threads end that torch starts for it. A second set of them, beside
            # the lane's, is more than there are cores: OpenMP lets them sleep then, and a query takes twice as long.
            with ThreadPoolExecutor(1) as thread:
                runners = [thread.submit(ForwardPass.load, source, device).result()]
        self.traits = [runner.traits for runner in runners]
        self.tokenizer.check_fits(self.traits[0].vocabulary)
        tokens = batch_tokens or min(traits.batch_tokens for traits in self.traits)
        self.scheduler = Scheduler(runners, TokenBudget(tokens))
        self._checkpoint = checkpoint

    def represent(
        self, texts: Sequence[str], call: Call, fingerprint: Fingerprint, advance: Advance
    ) -> tuple[M3Output, TextCounts]:
        """The representations of texts, in one forward pass, and what became of the texts.

        Many are tokenized in portions, each while the one before it goes through the model.
        """
        counted = TextCounts()

        def jobs() -> Iterator[Job]:
            nonlocal counted
            for portion in by_portions([len(text) for text in texts], _PORTION, _PORTION_CHARACTERS):
                tokenized = self.tokenizer.tokenize([texts[i] for i in portion], call.max_length)
                counted += tokenized.counts
                yield Job(tokenized.token_ids, call.modes, queries=call.queries, inbox=call.inbox, first=portion[0])

        output = self._filled(jobs(), len(texts), call.modes, fingerprint, advance)
        return output, counted

    def token_weights(self, text: str, max_length: int) -> tuple[list[TokenWeight], TextCounts]:
        """The tokens of a text with their lexical weights, and what became of it."""
        tokens, tokenized = self.tokenizer.tokens(text, max_length)
        made: list[Share] = []
        self.scheduler.run([Job(tokenized.token_ids, ("weights",), queries=True, inbox=Inbox())], made.append)
        (share,) = made
        assert share.output.weights is not None
        weights = share.output.weights[share.rows[0]][:-1]  # but for </s>
        weighted = [TokenWeight(t.token, t.id, t.start, t.end, float(w)) for t, w in zip(tokens, weights, strict=True)]
        return weighted, tokenized.counts

    def warm_up(self, max_length: int) -> None:
        """Runs a short text, and a full pack for each device."""
        budget = self.scheduler.budget.tokens
        length = min(_WARM_UP_TOKENS, max_length, budget)
        (short,) = self.tokenizer.tokenize(["m3"], max_length).token_ids
        full = [np.resize(short, length)] * (budget // length * len(self.traits))
        for texts in ([short], full):
            job = Job(texts, self._checkpoint.modes, queries=False, inbox=Inbox())
            self.scheduler.run([job], lambda share: None)

    def _filled(
        self, jobs: Iterable[Job], texts: int, modes: Sequence[Mode], fingerprint: Fingerprint, advance: Advance
    ) -> M3Output:
        dense = np.zeros((texts, self._checkpoint.dense_dim), dtype=np.float32)
        sparse: list[SparseVector] = [_NO_WEIGHTS] * texts
        multivector: list[FloatArray] = [_NO_ROWS] * texts

        def fill(share: Share) -> None:
            made = share.output
            if made.dense is not None:
                dense[share.members] = made.dense[share.rows]
            for member, row in zip(share.members, share.rows, strict=True):
                if made.sparse is not None:
                    sparse[member] = made.sparse[row]
                if made.multivector is not None:
                    multivector[member] = made.multivector[row].astype(np.float32)  # a copy
            advance(len(share.members))

        self.scheduler.run(jobs, fill)
        return M3Output(
            dense if "dense" in modes else None,
            sparse if "sparse" in modes else None,
            multivector if "multivector" in modes else None,
            self._checkpoint.score_weights,
            fingerprint,
        )


_NO_WEIGHTS = SparseVector(np.zeros(0, np.int32), np.zeros(0, np.float32))
_NO_ROWS: FloatArray = np.zeros((0, 0), np.float32)
