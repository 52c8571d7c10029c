"""What a store does, by brute force and in plain words: a dict of records, and every score of every one of them."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from filtering import matches
from vectors import KNOWN, ROW_DIM, random_output, unit

from m3core import Fingerprint, Fusion, M3Output, Mode, Record, SparseVector
from m3core.output import MODES
from m3stores import DBSF, RRF, WeightedSum

ALL: tuple[Mode, ...] = ("dense", "sparse", "multivector")


def made(
    n: int, seed: int = 0, modes: Sequence[Mode] = ALL, made_by: Fingerprint | None = KNOWN, empty: bool = False
) -> M3Output:
    """Representations whose numbers float16 does not hold.

    Args:
        n: of so many texts.
        seed: of the random numbers.
        modes: to have.
        made_by: the encoder.
        empty: whether some sparse vectors have no tokens, as those of a text without words.
    """
    output = random_output(n, seed, modes, made_by)
    rng = np.random.default_rng(seed + 10_000)
    if output.multivector is not None:
        output = replace(output, multivector=[unit(rng, int(rng.integers(1, 6)), ROW_DIM) for _ in range(n)])
    if output.sparse is not None and empty:
        kept = [SparseVector([], []) if rng.random() < 0.2 else vector for vector in output.sparse]
        output = replace(output, sparse=kept)
    return output


def part(output: M3Output, modes: Sequence[Mode]) -> M3Output:
    """Only these modes of it."""
    return replace(output, **{mode: None for mode in output.modes if mode not in modes})


def rounded(output: M3Output, half: Sequence[Mode]) -> M3Output:
    """As a store keeps it that has float16 for some modes."""

    def short(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float16).astype(np.float32)

    if "sparse" in half and output.sparse is not None:
        output = replace(output, sparse=[SparseVector(v.indices, short(v.values)) for v in output.sparse])
    if "multivector" in half and output.multivector is not None:
        output = replace(output, multivector=[short(rows) for rows in output.multivector])
    return output


class Reference:
    """The records of a collection.

    Attributes:
        records: by id.
        given: their representations, as they were given.
        kept: as the store keeps them.
    """

    def __init__(self, half: Sequence[Mode], half_queries: Sequence[Mode]) -> None:
        """Empty.

        Args:
            half: the modes that the store keeps as float16.
            half_queries: the modes by which it searches with queries of float16.
        """
        self._half, self._half_queries = half, half_queries
        self.clear()

    def clear(self) -> None:
        self.records: dict[str, Record] = {}
        self.given: dict[str, M3Output] = {}
        self.kept: dict[str, M3Output] = {}

    def upsert(self, records: Sequence[Record], output: M3Output) -> list[str]:
        """Returns the ids of the records that are new or different."""
        written = []
        for record, vectors in zip(records, output, strict=True):
            held = self.records.get(record.id)
            if held is None or content(held, self.given[record.id]) != content(record, vectors):
                self.records[record.id], self.given[record.id] = record, vectors
                self.kept[record.id] = rounded(vectors, self._half)
                written.append(record.id)
        return written

    def delete(self, ids: Sequence[str]) -> None:
        for i in ids:
            for held in (self.records, self.given, self.kept):
                held.pop(i, None)

    def matching(self, where: dict | None) -> list[str]:
        """The ids of the records that a filter matches, sorted."""
        return sorted(i for i, record in self.records.items() if where is None or matches(where, record.metadata))

    def pool(
        self,
        query: M3Output,
        *,
        k: int = 10,
        modes: Sequence[Mode] | None = None,
        candidates: int | None = None,
        fusion: Fusion | None = None,
        rerank: bool = False,
        filter: dict | None = None,
        ids: Sequence[str] | None = None,
        **_: object,
    ) -> "Pool":
        """The candidates for one query, scored in full. Takes what `HybridStore.search` takes."""
        query = rounded(query, self._half_queries)
        matching = [i for i in self.matching(filter) if ids is None or i in set(ids)]
        texts = [self.kept[i] for i in matching]
        held = texts[0].modes if texts else ()
        legs = modes or [mode for mode in held if mode != "multivector"] or held
        scored = [mode for mode in MODES if mode in legs or (rerank and mode == "multivector")]
        scores = {mode: scores_by(mode, query, texts) for mode in scored}
        limit = max(5 * k, 50) if candidates is None else candidates
        proposed: set[int] = set()
        for mode in legs:
            able = [n for n, text in enumerate(texts) if mode != "sparse" or shares_a_token(query, text)]
            proposed.update(sorted(able, key=lambda n, by=scores[mode]: -by[n])[:limit])
        chosen = sorted(proposed)
        dense = {matching[n]: unit_vector(texts[n].dense[0]) for n in chosen} if "dense" in held else {}
        pooled = {mode: by[chosen] for mode, by in scores.items()}
        own = {mode: float(scores_by(mode, query, [query])[0]) for mode in scored}
        return Pool([matching[n] for n in chosen], pooled, fusion or WeightedSum(*query.score_weights), dense, own)


class Pool:
    """Candidates of one query.

    Attributes:
        ids: sorted.
        scores: by mode, in the order of the ids.
        fused: the fused scores.
        share: these, as a share of what the query's own text would get, or a record that each mode ranks first.
        dense: dense vectors of unit length by id.
    """

    def __init__(
        self,
        ids: list[str],
        scores: dict[Mode, np.ndarray],
        fusion: Fusion,
        dense: dict[str, np.ndarray],
        own: dict[Mode, float],
    ) -> None:
        self.ids, self.scores, self.dense = ids, scores, dense
        weights = dict.fromkeys(scores, 1.0)
        match fusion:
            case WeightedSum():
                weights = {mode: getattr(fusion, mode) for mode in scores}
                parts, full = scores, sum(weights[mode] * own[mode] for mode in scores)
            case RRF():
                if fusion.weights is not None:
                    weights = {mode: fusion.weights[MODES.index(mode)] for mode in scores}
                parts, full = (
                    {m: 1 / (fusion.k + self.ranks(m)) for m in scores},
                    sum(weights.values()) / (fusion.k + 1),
                )
            case DBSF():
                parts, full = {m: spread(s) for m, s in scores.items()}, float(len(scores))
        self.fused = sum(weights[m] * parts[m] for m in scores)
        self.share = self.fused / (full if full > 0 else 1.0)

    def ranks(self, mode: Mode, slack: float = 0.0) -> np.ndarray:
        """1 and how many are better, by more than a slack."""
        own = self.scores[mode]
        return 1 + (own[None, :] > own[:, None] + slack).sum(axis=1)


def scores_by(mode: Mode, query: M3Output, texts: Sequence[M3Output]) -> np.ndarray:
    """The paper's score of each text: the dot product, the lexical sum, the mean over the query's rows of the best."""
    match mode:
        case "dense":
            scores = [text.dense[0] @ query.dense[0].astype(float) for text in texts]
        case "sparse":
            asked = query.sparse[0].as_dict()
            scores = [sum(w * asked.get(t, 0.0) for t, w in text.sparse[0].as_dict().items()) for text in texts]
        case "multivector":
            rows = query.multivector[0].astype(float)
            scores = [(text.multivector[0] @ rows.T).max(axis=0).mean() for text in texts]
    return np.array(scores, dtype=float)


def unit_vector(vector: np.ndarray) -> np.ndarray:
    return vector / (np.linalg.norm(vector) or 1.0)


def shares_a_token(query: M3Output, text: M3Output) -> bool:
    return not set(query.sparse[0].indices.tolist()).isdisjoint(text.sparse[0].indices.tolist())


def spread(scores: np.ndarray) -> np.ndarray:
    """Scores on a scale where mean ± 3σ is 0…1; 0.5 where all are equal."""
    if not len(scores) or scores.max() == scores.min():
        return np.full(len(scores), 0.5)
    return 0.5 + (scores - scores.mean()) / (6 * scores.std(ddof=1))


def content(record: Record, vectors: M3Output) -> tuple:
    """All that tells a record from another version of it."""
    numbers = [] if vectors.dense is None else [vectors.dense.tobytes()]
    numbers += [(v.indices.tobytes(), v.values.tobytes()) for v in vectors.sparse or ()]
    numbers += [rows.tobytes() for rows in vectors.multivector or ()]
    return record.text, json.dumps(record.metadata, sort_keys=True), vectors.modes, numbers
