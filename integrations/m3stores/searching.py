"""A search: each mode proposes candidates, every mode scores all of them, and one function fuses the scores."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3core import Fusion, M3Output, Mode, UnsupportedMode
from m3core.fusion import shares, total
from m3stores.collection import Hit, Schema
from m3stores.diversity import mmr_order, own_score
from m3stores.engine import Engine


@dataclass(frozen=True)
class Plan:
    """What a search does.

    Attributes:
        k: the most hits for each query.
        legs: the modes that propose candidates.
        scored: the modes that score them.
        limit: candidates from each leg.
        fusion: of the scores.
        filter: in the engine's own terms.
        threshold: the least fused score of a hit.
        mmr: the balance of maximal marginal relevance, or `None` for the order of the scores.
    """

    k: int
    legs: tuple[Mode, ...]
    scored: tuple[Mode, ...]
    limit: int
    fusion: Fusion
    filter: object
    threshold: float | None
    mmr: float | None


def check_queries(plan: Plan, queries: M3Output, schema: Schema, collection: str, address: str | None) -> None:
    """Refuses queries that this collection cannot be searched with.

    Raises:
        UnsupportedMode: a mode that the collection or the queries do not have.
        CollectionMismatch: the queries come from another encoder.
    """
    for mode in plan.scored:
        schema.check_mode(mode, collection)
        if mode not in queries.modes:
            raise UnsupportedMode(
                f"the queries have no {mode} representation; they have {', '.join(queries.modes)}. Encode them "
                f"with modes={list(plan.scored)}"
            )
    if plan.mmr is not None and "dense" not in schema.modes:
        raise UnsupportedMode(f"mmr compares dense vectors, and collection {collection!r} has none")
    schema.check_fingerprint(queries.fingerprint, collection, address)
    schema.check_vectors(queries, plan.scored, collection)


async def search(engine: Engine, queries: M3Output, plan: Plan) -> list[list[Hit]]:
    """The hits for each query, best first."""
    found = await engine.candidates(queries, plan.legs, plan.limit, plan.filter)
    pools = [_Pool(sorted(set().union(*by_mode.values())), by_mode) for by_mode in found]
    missing = [
        (row, mode, ids) for row, pool in enumerate(pools) for mode in plan.scored if (ids := pool.without(mode))
    ]
    if missing:
        for (row, mode, _), scores in zip(missing, await engine.scores(queries, missing), strict=True):
            pools[row].scores.setdefault(mode, {}).update(scores)
    return [await _hits(engine, pool, query, plan) for pool, query in zip(pools, queries, strict=True)]


class _Pool:
    """The candidates of one query, and their scores so far."""

    def __init__(self, ids: list[str], scores: dict[Mode, dict[str, float]]) -> None:
        self.ids = ids
        self.scores = scores

    def without(self, mode: Mode) -> list[str]:
        """The candidates that this mode has not scored."""
        known = self.scores.get(mode, {})
        return [i for i in self.ids if i not in known]

    def array(self, mode: Mode) -> npt.NDArray[np.float64]:
        """The scores by this mode; texts without a token in common with the query have the lexical score 0."""
        known = self.scores.get(mode, {})
        return np.array([known.get(i, 0.0) for i in self.ids])


async def _hits(engine: Engine, pool: _Pool, query: M3Output, plan: Plan) -> list[Hit]:
    if not pool.ids:
        return []
    per_mode = {mode: pool.array(mode) for mode in plan.scored}
    parts = shares(per_mode, plan.fusion)
    fused = total(parts)
    order = np.argsort(-fused, kind="stable").tolist()  # ids are sorted: equal scores go by id
    if plan.threshold is not None:
        order = [i for i in order if fused[i] >= plan.threshold]
    if plan.mmr is not None:
        order = await _diverse(engine, pool, order, fused / own_score(query, plan.fusion, plan.scored), plan)
    hits: list[Hit] = []
    while order and len(hits) < plan.k:  # once, unless records were deleted meanwhile
        best, order = order[: plan.k - len(hits)], order[plan.k - len(hits) :]
        records = await engine.read([pool.ids[i] for i in best])
        rank = {mode: _ranks(values, best) for mode, values in per_mode.items()}
        hits += [
            Hit(
                record.id,
                record.text,
                record.metadata,
                float(fused[i]),
                {mode: float(per_mode[mode][i]) for mode in plan.scored},
                {mode: rank[mode][place] for mode in plan.scored},
                {mode: float(parts[mode][i]) for mode in plan.scored},
            )
            for place, i in enumerate(best)
            if (record := records.get(pool.ids[i]))
        ]
    return hits


def _ranks(scores: npt.NDArray[np.float64], places: list[int]) -> list[int]:
    """The ranks of a few of the scores: one more than there are larger ones."""
    ranks: list[int] = (1 + (scores > scores[places, None]).sum(axis=1)).tolist()
    return ranks


async def _diverse(
    engine: Engine, pool: _Pool, order: list[int], relevance: npt.NDArray[np.float64], plan: Plan
) -> list[int]:
    assert plan.mmr is not None
    vectors = await engine.vectors([pool.ids[i] for i in order], "dense")
    order = [i for i in order if pool.ids[i] in vectors]
    if not order:
        return []
    stacked = np.stack([vectors[pool.ids[i]] for i in order])
    return [order[i] for i in mmr_order(relevance[order], stacked, plan.mmr, plan.k)]
