"""What waits for a device: the texts of all calls, and which of them go next."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from m3core.errors import EncoderClosed
from m3core.packing import IntArray, PackOutput, TokenBudget, Want

_PATIENCE = 0.002  # seconds to wait for the calls that have just been served
_LEAST_SHARE = 256  # tokens, below which it does not pay to share them among devices
_BRIEF = 4  # such packs of documents make a full one, where queries wait for them and cannot get in between
CLOSED = "this encoder was closed; load another one with M3Encoder(...)"


@dataclass(frozen=True, eq=False)
class Share:
    """What a pack made for one job.

    Attributes:
        members: which of the call's texts.
        rows: where each of them is in `output`.
        output: of all texts in the pack of which the same was wanted.
    """

    members: list[int]
    rows: list[int]
    output: PackOutput


class Inbox(SimpleQueue[Share | BaseException]):
    """Where a call waits for its results, or for what ends it.

    Attributes:
        ended: whether nothing more is wanted.
    """

    def __init__(self) -> None:
        self.ended = False

    def end(self, error: BaseException) -> None:
        """Ends the call; texts of it that still wait are left out."""
        self.ended = True
        self.put(error)


@dataclass(frozen=True, eq=False, slots=True)
class Text:
    """One text of a job, by its place among those of the call and its token ids."""

    job: "Job"
    member: int
    token_ids: IntArray


class Job:
    """The texts of one call, or a portion of them.

    Attributes:
        wants: what to make of each.
        queries: whether they go before documents.
        inbox: where what is made goes.
        size: how many texts there are.
        texts: those that still wait; the longest first, so that a lack of memory shows at the start.
        done: whether all of it is made, or its call has ended.
    """

    def __init__(
        self, texts: Sequence[IntArray], wants: tuple[Want, ...], *, queries: bool, inbox: Inbox, first: int = 0
    ) -> None:
        """Takes what the job is about; `first` is the place of its first text among those of the call."""
        self.wants, self.queries, self.inbox, self.size = wants, queries, inbox, len(texts)
        members = (Text(self, i, token_ids) for i, token_ids in enumerate(texts, start=first))
        self.texts = deque(sorted(members, key=lambda text: -len(text.token_ids)))
        self.done = False

    @property
    def dropped(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.done or self.inbox.ended


class Waiting:
    """The jobs that wait. Those who call add to it, and the lanes take packs of texts from it."""

    def __init__(self, budget: TokenBudget) -> None:
        self._budget = budget
        # Reentrant, as an encoder may be collected and closed while it is held. Taken by itself, not by the condition,
        # which is Python code, where an interrupt could leave it taken.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._queries: deque[Job] = deque()
        self._documents: deque[Job] = deque()
        self._tokens = self._idle = 0
        self.closed = False

    def add(self, job: Job) -> None:
        """Puts a job in line.

        Raises:
            EncoderClosed: nothing is taken from it any more.
        """
        with self._lock:
            if self.closed:
                raise EncoderClosed(CLOSED)
            if job.texts:
                self._line(job).append(job)
                self._tokens += _tokens(job)
                self._changed.notify_all()

    def drop(self, job: Job) -> None:
        """Takes a job out of its line, if it is in there."""
        with self._lock:
            line = self._line(job)
            if job.texts and job in line:
                line.remove(job)
                self._tokens -= _tokens(job)
            job.texts.clear()
            job.done = True

    def fail(self, job: Job, error: BaseException) -> None:
        """Drops a job, and tells whoever waits for it why."""
        self.drop(job)
        job.inbox.end(error)

    def put_back(self, texts: list[Text]) -> None:
        """Puts texts back to the front of their line."""
        with self._lock:
            for text in reversed(texts):
                job, line = text.job, self._line(text.job)
                if not job.dropped and not self.closed:
                    job.texts.appendleft(text)
                    self._tokens += len(text.token_ids)
                    if job not in line:
                        line.appendleft(job)

    def close(self) -> None:
        """Fails all jobs, and lets nobody wait any more."""
        with self._lock:
            self.closed = True
            for job in [*self._queries, *self._documents]:
                self.fail(job, EncoderClosed(CLOSED))
            self._changed.notify_all()

    def take(self, *, served: int, documents_turn: bool, briefly: bool, ahead: bool = False) -> list[Text]:
        """The texts of the next pack, as soon as there are some; none when it was closed, or nothing goes ahead.

        Queries go first. Jobs take turns text by text, so that a short one need not wait for a long one.

        Args:
            served: how many calls the pack before had. So many are likely to come back, and it waits a little for them:
                packs would go on being one large and one small otherwise.
            documents_turn: whether documents go before queries this time.
            briefly: whether they take a small pack then, as it cannot be interrupted.
            ahead: whether the pack before is still under way. It does not wait then, and queries that come behind a
                pack of queries gather until that is done.
        """
        with self._lock:
            self._idle += 1
            try:
                self._gather(served)
                while not (ahead or self.closed or self._queries or self._documents):
                    self._changed.wait()
                if documents_turn and self._documents:
                    brief = max(1, self._budget.tokens // _BRIEF) if briefly and self._queries else None
                    return self._packed(self._documents, brief)
                if documents_turn and ahead:
                    return []
                return self._packed(self._queries or self._documents)
            finally:
                self._idle -= 1

    def take_queries(self) -> list[Text]:
        """The texts of a pack of those queries that wait now."""
        if not self._queries:  # asked before each layer, most often in vain: not worth a lock
            return []
        with self._lock:
            return self._packed(self._queries)

    def _gather(self, calls: int) -> None:
        end = time.monotonic() + _PATIENCE
        while calls > 1 and not self.closed and len(self._queries) + len(self._documents) < calls:
            left = end - time.monotonic()
            if left <= 0 or self._tokens >= self._budget.tokens:
                return
            self._changed.wait(left)

    def _packed(self, line: deque[Job], limit: int | None = None) -> list[Text]:
        """As many texts as the budget allows, but one at least; fewer if devices that are idle can share the work."""
        share = -(-self._tokens // max(1, self._idle))
        most = min(self._budget.tokens, limit or self._budget.tokens, max(_LEAST_SHARE, share))
        texts: list[Text] = []
        tokens = 0
        while line:
            job = line[0]
            length = len(job.texts[0].token_ids)
            if texts and tokens + length > most:
                break
            tokens += length
            texts.append(job.texts.popleft())
            line.popleft()
            if job.texts:
                line.append(job)
        self._tokens = self._tokens - tokens if self._queries or self._documents else 0  # an interrupt may miscount
        return texts

    def _line(self, job: Job) -> deque[Job]:
        return self._queries if job.queries else self._documents


def _tokens(job: Job) -> int:
    return sum(len(text.token_ids) for text in job.texts)
