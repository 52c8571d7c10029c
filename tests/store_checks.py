"""Holds what a store returns against the reference. Where two scores are all but equal, either may come first."""

import json
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from store_reference import Pool, Reference

from m3core import M3Output, Record
from m3stores import Hit, HybridStore

_NEAR = 1e-5  # scores that are nearer to each other count as equal
_EXACT = 1e-4  # how far a score may be off


def check_search(store: HybridStore, reference: Reference, queries: M3Output, **options: object) -> list[list[Hit]]:
    """Searches both, with the arguments of `HybridStore.search`, and compares all there is to a hit."""
    found = store.search(queries, **options)
    assert len(found) == len(queries)
    for query, hits in zip(queries, found, strict=True):
        check_hits(hits, reference, reference.pool(query, **options), **options)
    return found


def check_hits(
    hits: Sequence[Hit],
    reference: Reference,
    pool: Pool,
    *,
    k: int = 10,
    score_threshold: float | None = None,
    mmr: float | None = None,
    **_: object,
) -> None:
    """Which hits they are, their contents, scores, ranks and shares, and their order."""
    allowed = {i: n for n, i in enumerate(pool.ids) if score_threshold is None or pool.fused[n] >= score_threshold}
    assert len(hits) == min(k, len(allowed))
    assert len({hit.id for hit in hits}) == len(hits)
    assert {hit.id for hit in hits} <= set(allowed)
    best = {mode: pool.ranks(mode, _NEAR) for mode in pool.scores}
    worst = {mode: pool.ranks(mode, -_NEAR) for mode in pool.scores}
    for hit in hits:
        n, record = allowed[hit.id], reference.records[hit.id]
        assert exact(Record(hit.id, hit.text, hit.metadata)) == exact(record)
        assert hit.score == pytest.approx(pool.fused[n], abs=_EXACT), hit.id
        assert list(hit.scores) == list(hit.ranks) == list(hit.shares) == list(pool.scores)
        assert sum(hit.shares.values()) == pytest.approx(hit.score, abs=1e-9)
        for mode, scores in pool.scores.items():
            assert hit.scores[mode] == pytest.approx(scores[n], abs=_EXACT), (hit.id, mode)
            assert best[mode][n] <= hit.ranks[mode] <= worst[mode][n], (hit.id, mode)
    places = [allowed[hit.id] for hit in hits]
    if mmr is None:
        _check_order(hits, places, pool, list(allowed.values()))
    else:
        _check_mmr(places, pool, list(allowed.values()), mmr)


def _check_order(hits: Sequence[Hit], places: list[int], pool: Pool, allowed: list[int]) -> None:
    left = set(allowed)
    for n in places:
        assert pool.fused[n] >= max(pool.fused[other] for other in left) - _NEAR, pool.ids[n]
        left.remove(n)
    for one, other in pairwise(hits):
        assert (-one.score, one.id) < (-other.score, other.id)


def _check_mmr(places: list[int], pool: Pool, allowed: list[int], mmr: float) -> None:
    """Each hit was the best choice, given the hits before it."""
    left, taken = set(allowed), []
    for n in places:
        gains = {m: mmr * pool.share[m] - (1 - mmr) * _nearest(pool, m, taken) for m in left}
        assert gains[n] >= max(gains.values()) - _NEAR, pool.ids[n]
        taken.append(n)
        left.remove(n)


def _nearest(pool: Pool, n: int, taken: list[int]) -> float:
    return max((float(pool.dense[pool.ids[n]] @ pool.dense[pool.ids[m]]) for m in taken), default=0.0)


def exact(record: Record) -> tuple[str, str, str]:
    """A record so that 1, 1.0 and True differ."""
    return record.id, record.text, json.dumps(record.metadata, sort_keys=True)


def check_contents(store: HybridStore, reference: Reference, size: int = 256) -> None:
    """All records are there, each once, with the representations that they should have."""
    pages = list(store.scroll(size=size, with_vectors=True))
    assert all(len(page.records) == len(page.output) <= size for page in pages)
    found = {
        record.id: (record, vectors)
        for page in pages
        for record, vectors in zip(page.records, page.output, strict=True)
    }
    assert sum(len(page.records) for page in pages) == len(found) == store.count() == len(reference.records)
    assert found.keys() == reference.records.keys()
    for i, (record, vectors) in found.items():
        assert exact(record) == exact(reference.records[i])
        check_vectors(vectors, reference.kept[i])


def check_vectors(vectors: M3Output, wanted: M3Output) -> None:
    """They are the same, bit by bit."""
    assert vectors.modes == wanted.modes
    assert vectors.fingerprint == wanted.fingerprint
    if wanted.dense is not None:
        np.testing.assert_array_equal(vectors.dense, wanted.dense)
    for found, given in zip(vectors.sparse or (), wanted.sparse or (), strict=True):
        np.testing.assert_array_equal(found.indices, given.indices)
        np.testing.assert_array_equal(found.values, given.values)
    for found, given in zip(vectors.multivector or (), wanted.multivector or (), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, given)
