"""`HybridStore`: the one contract of all stores. What a store does, over whatever engine keeps the points."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np

from m3core import CollectionMismatch, Fusion, InvalidInput, M3Output, Mode, Record, UnsupportedMode, WeightedSum, fuse
from m3core.output import MODES
from m3core.scoring import ranks
from m3core.tokenizer import check_text
from m3stores.checks import check_output, checked_records
from m3stores.collection import Engine, Hit, Schema
from m3stores.filters import parse

_LEAST_CANDIDATES, _CANDIDATES_PER_HIT = 50, 5
_MOST = 2**31


class HybridStore:
    """A collection of records with dense, sparse and multi-vector representations, searched by all of them at once.

    Made by its subclasses, such as `QdrantStore`. Knows no encoder: it learns from the `M3Output`s that it is given.
    The first one that it stores decides which modes the collection has, and which encoder's vectors it takes.

    May be shared by threads. Usable as a context manager, which closes it.

    Attributes:
        collection: its name.
    """

    def __init__(self, collection: str, engine: Engine) -> None:
        self.collection = collection
        self._engine = engine

    def __repr__(self) -> str:
        """The collection's name."""
        return f"{type(self).__name__}({self.collection!r})"

    @property
    def schema(self) -> Schema | None:
        """What the collection holds; `None` before the first `upsert`."""
        return self._engine.schema

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that every record has; empty before the first `upsert`."""
        return self.schema.modes if self.schema else ()

    def upsert(self, records: Sequence[Record], output: M3Output) -> list[str]:
        """Stores records with their representations, in place of any with the same ids.

        All is checked before anything is written. When the call returns, the records are on disk; if the process dies
        on the way, some of them are, each whole.

        Args:
            records: with distinct ids, any strings.
            output: what an encoder made of their texts, in the same order.

        Returns:
            The ids.

        Raises:
            InvalidInput: a record or a vector that cannot be stored, named.
            CollectionMismatch: the vectors come from another encoder than the collection's, or have other modes.
            StoreError: the store is closed, or its engine failed.
        """
        records = checked_records(list(records))
        check_output(output, [f"record {r.id!r}" for r in records])
        if not records:
            return []
        schema = self._engine.create(Schema.of(output))
        schema.check_fingerprint(output.fingerprint, self.collection)
        if output.modes != schema.modes:
            raise CollectionMismatch(
                f"collection {self.collection!r} holds {', '.join(schema.modes)}, and these are "
                f"{', '.join(output.modes)}: encode with modes={list(schema.modes)}"
            )
        schema.check_vectors(output, schema.modes, self.collection)
        self._engine.write(records, output)
        return [record.id for record in records]

    def delete(self, ids: Sequence[str] | None = None, *, filter: object = None) -> None:
        """Removes records by id or by filter. Ids that are not there do not matter.

        Args:
            ids: which ones.
            filter: as in `search`, in place of `ids`.

        Raises:
            InvalidInput: neither or both were given, or an unusable filter.
        """
        if (ids is None) == (filter is None):
            raise InvalidInput("delete takes either ids or a filter")
        if ids is not None:
            wanted = _checked_ids(ids)
            if wanted and self.schema is not None:
                self._engine.delete(wanted)
            return
        if isinstance(filter, Mapping) and not filter:
            raise InvalidInput("an empty filter would delete everything; name the ids")
        native = self._native(filter)
        if self.schema is not None:
            self._engine.delete_matching(native)

    def get(self, ids: Sequence[str]) -> list[Record]:
        """The records of these ids, in this order; ids that are not there are passed over."""
        wanted = _checked_ids(ids)
        found = self._engine.read(wanted) if wanted and self.schema is not None else {}
        return [found[i] for i in wanted if i in found]

    def count(self, filter: object = None) -> int:
        """How many records there are, or how many a filter matches (as in `search`)."""
        native = self._native(filter)
        return self._engine.count(native) if self.schema is not None else 0

    def search(
        self,
        queries: M3Output,
        *,
        k: int = 10,
        modes: Sequence[Mode] | None = None,
        candidates: int | None = None,
        fusion: Fusion | None = None,
        rerank: bool = False,
        filter: object = None,
    ) -> list[list[Hit]]:
        """The best records for each query.

        Each mode proposes its best `candidates`; all of them are scored by every mode, and the scores are fused. Where
        `candidates` covers the collection, this is the ranking of `M3Output.score` over all records.

        Args:
            queries: from the encoder that made the collection.
            k: the most hits for each query.
            modes: which ones propose candidates and score; `None` means dense and sparse, as far as there are.
            candidates: from each mode; `None` means 5·k, but at least 50.
            fusion: `WeightedSum`, `RRF` or `DBSF`; `None` means the weighted sum with the model's own weights.
            rerank: whether multi-vectors score the candidates too.
            filter: a dict as `m3stores.filters` describes it, or a filter of the store's own.

        Returns:
            For each query its hits, best first; equal scores in the order of ids. Empty in an empty collection.

        Raises:
            InvalidInput: an argument that cannot be used.
            UnsupportedMode: a mode that the collection or the queries do not have.
            CollectionMismatch: the queries come from another encoder.
        """
        k = _whole(k, "k", 1)
        limit = _whole(
            max(_CANDIDATES_PER_HIT * k, _LEAST_CANDIDATES) if candidates is None else candidates, "candidates", k
        )
        native = self._native(filter)
        check_output(queries)
        if self.schema is None or not len(queries):
            return [[] for _ in range(len(queries))]
        legs = self.legs(modes)
        scored = tuple(mode for mode in MODES if mode in legs or (rerank and mode == "multivector"))
        self._check_queries(self.schema, queries, scored)
        found = self._engine.candidates(queries, legs, limit, native)
        pools = [_Pool(sorted(set().union(*by_mode.values())), by_mode) for by_mode in found]
        missing = [(row, mode, ids) for row, pool in enumerate(pools) for mode in scored if (ids := pool.without(mode))]
        for (row, mode, _), scores in zip(missing, self._engine.scores(queries, missing), strict=True):
            pools[row].scores.setdefault(mode, {}).update(scores)
        total = WeightedSum(*queries.score_weights) if fusion is None else fusion
        return [self._hits(pool, scored, total, k) for pool in pools]

    async def asearch(self, queries: M3Output, **options: Any) -> list[list[Hit]]:
        """`search` without blocking the event loop."""
        return await asyncio.to_thread(partial(self.search, queries, **options))

    def legs(self, modes: Sequence[Mode] | None) -> tuple[Mode, ...]:
        """The modes that propose candidates in a search with this argument.

        Raises:
            InvalidInput: no list of modes.
            UnsupportedMode: the collection does not have one of them.
        """
        if modes is None:
            return tuple(mode for mode in self.modes if mode != "multivector") or self.modes
        wanted = [] if isinstance(modes, str) or not isinstance(modes, Iterable) else list(modes)
        if not wanted or not all(mode in MODES for mode in wanted):
            raise InvalidInput(f"modes must be a list of some of {', '.join(map(repr, MODES))}, not {modes!r}")
        return tuple(mode for mode in MODES if mode in wanted)

    def close(self) -> None:
        """Closes the store; a temporary collection is removed. May be called twice."""
        self._engine.close()

    def __enter__(self) -> Self:
        """Nothing to do: a store is open from the start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the store."""
        self.close()

    def _check_queries(self, schema: Schema, queries: M3Output, scored: Sequence[Mode]) -> None:
        for mode in scored:
            if mode not in schema.modes:
                raise UnsupportedMode(
                    f"collection {self.collection!r} has no {mode} representations; it has {', '.join(schema.modes)}"
                )
            if mode not in queries.modes:
                raise UnsupportedMode(
                    f"the queries have no {mode} representation; they have {', '.join(queries.modes)}. Encode them "
                    f"with modes={list(scored)}"
                )
        schema.check_fingerprint(queries.fingerprint, self.collection)
        schema.check_vectors(queries, scored, self.collection)

    def _hits(self, pool: "_Pool", scored: Sequence[Mode], fusion: Fusion, k: int) -> list[Hit]:
        if not pool.ids:
            return []
        per_mode = {mode: pool.array(mode) for mode in scored}
        fused = fuse(per_mode, fusion)
        order = np.argsort(-fused, kind="stable").tolist()  # ids are sorted: equal scores go by id
        rank = {mode: ranks(values) for mode, values in per_mode.items()}
        hits: list[Hit] = []
        while order and len(hits) < k:  # once, unless records were deleted meanwhile
            best, order = order[: k - len(hits)], order[k - len(hits) :]
            records = self._engine.read([pool.ids[i] for i in best])
            hits += [
                Hit(
                    record.id,
                    record.text,
                    record.metadata,
                    float(fused[i]),
                    {mode: float(per_mode[mode][i]) for mode in scored},
                    {mode: int(rank[mode][i]) for mode in scored},
                )
                for i in best
                if (record := records.get(pool.ids[i]))
            ]
        return hits

    def _native(self, filter: object) -> Any:
        if filter is None or self._engine.is_native(filter):
            return filter
        if not isinstance(filter, Mapping):
            raise InvalidInput(f"a filter is a dict such as {{'side': 'pro'}}, or the store's own, not {filter!r}")
        return self._engine.translate(parse(filter))


class _Pool:
    """The candidates of one query, and their scores so far."""

    def __init__(self, ids: list[str], scores: dict[Mode, dict[str, float]]) -> None:
        self.ids = ids
        self.scores = scores

    def without(self, mode: Mode) -> list[str]:
        """The candidates that this mode has not scored."""
        known = self.scores.get(mode, {})
        return [i for i in self.ids if i not in known]

    def array(self, mode: Mode) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        """The scores by this mode; texts without a token in common with the query have the lexical score 0."""
        known = self.scores.get(mode, {})
        return np.array([known.get(i, 0.0) for i in self.ids])


def _checked_ids(ids: Sequence[str]) -> list[str]:
    wanted = [None] if isinstance(ids, str) or not isinstance(ids, Iterable) else list(ids)
    if not all(isinstance(i, str) for i in wanted):
        raise InvalidInput(f"ids must be a list of strings, not {ids!r}")
    return [check_text(i, "an id") for i in wanted]


def _whole(value: object, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value < _MOST:
        raise InvalidInput(f"{name} must be a whole number from {least}, not {value!r}")
    return int(value)
