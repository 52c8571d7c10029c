"""What a Chroma collection's records score, by each mode, and which are the best."""

import heapq
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from m3core import InvalidInput, M3Output, Mode, SparseVector, StoreError, StoreWarning
from m3core.output import FloatArray
from m3core.scoring import maxsim_scores
from m3stores.chroma.collection import ChromaCollection
from m3stores.chroma.derived import Derived
from m3stores.chroma.filters import Where, where_arguments
from m3stores.chroma.records import SPARSE, hash_of, unpacked
from m3stores.chroma.sidecar import Sidecar
from m3stores.collection import Schema

_PART = 256  # records that are compared at a time
_FEW = 500  # records that are compared one by one


class Scores:
    """Dense by Chroma's index, or exactly from the vectors; sparse by our own index; MaxSim from the sidecar."""

    def __init__(self, collection: ChromaCollection, derived: Derived, sidecar: Sidecar | None) -> None:
        self._collection = collection
        self._derived = derived
        self._sidecar = sidecar

    def matching(self, filter: Where | None) -> list[str]:
        """The ids of all records that a filter matches."""
        ids, arguments = None if filter is None else filter.ids, where_arguments(filter)
        if ids is not None and not any(arguments.values()):
            return [i for page in self._collection.some(list(dict.fromkeys(ids)), []) for i in page["ids"]]
        matched: list[str] = self._collection.call("get", include=[], **arguments)["ids"]
        if ids is None:
            return matched
        wanted = set(ids)  # asked for both, Chroma takes milliseconds for each id
        return [i for i in matched if i in wanted]

    def best(
        self, queries: M3Output, mode: Mode, limit: int, filter: Where | None, among: Sequence[str] | None
    ) -> list[dict[str, float]]:
        """For each query the best records by one mode.

        Args:
            queries: to be scored by.
            mode: one of theirs.
            limit: the most records for each.
            filter: of the records.
            among: the ids of all that the filter matches, if there is one.
        """
        if mode == "dense":
            assert queries.dense is not None
            if (exact := self._derived.exact()) is not None:
                return [exact.best(query, limit, among) for query in queries.dense]
            # Chroma's index, which is approximate, may find too few of a few; and it fails on an id that is gone
            if filter is not None and among is not None and (filter.ids is not None or len(among) <= _FEW):
                return self._compared(queries, mode, limit, among)
            return self._best_dense(queries, limit, filter)
        index = self._derived.index()
        if mode == "sparse":
            return [index.best(query, limit, among) for query in queries.sparse or ()]
        return self._compared(queries, mode, limit, list(index.hashes(among)))

    def of(self, queries: M3Output, row: int, mode: Mode, ids: Sequence[str]) -> dict[str, float]:
        """The scores of these records for one query by one mode."""
        if mode == "sparse":
            assert queries.sparse is not None
            return self._derived.index().scores(queries.sparse[row], ids)
        (scores,) = self._scored(queries[row], mode, ids)
        return scores

    def vectors(self, ids: Sequence[str], mode: Mode) -> Mapping[str, FloatArray | SparseVector]:
        """The representations of these records, as far as they are there."""
        if mode == "sparse":
            held = self._collection.metadatas(ids)
            return {i: unpacked(metadata[SPARSE]) for i, metadata in held.items() if SPARSE in metadata}
        return self._dense(ids) if mode == "dense" else self._beside(ids)

    def _compared(self, queries: M3Output, mode: Mode, limit: int, ids: Sequence[str]) -> list[dict[str, float]]:
        """For each query the best of these records; each one is scored."""
        best: list[dict[str, float]] = [{} for _ in range(len(queries))]
        for start in range(0, len(ids), _PART):
            for row, scores in enumerate(self._scored(queries, mode, ids[start : start + _PART])):
                best[row].update(scores)
        return [_largest(scores, limit) for scores in best]

    def _scored(self, queries: M3Output, mode: Mode, ids: Sequence[str]) -> list[dict[str, float]]:
        """For each query the scores of these records, by dense vectors or by multi-vectors."""
        held = self._dense(ids) if mode == "dense" else self._beside(ids)
        if not held:
            return [{} for _ in range(len(queries))]
        scored: Iterable[FloatArray]
        if mode == "dense":
            assert queries.dense is not None
            vectors, space = np.stack(list(held.values())), self._collection.space()
            scored = [_similarity(vectors, query, space) for query in queries.dense]
        else:
            scored = maxsim_scores(queries.multivector or (), list(held.values()))
        return [dict(zip(held, scores.tolist(), strict=True)) for scores in scored]

    def _dense(self, ids: Sequence[str]) -> dict[str, FloatArray]:
        if (exact := self._derived.exact()) is not None:
            return exact.get(ids)
        found: dict[str, FloatArray] = {}
        for page in self._collection.some(ids, ["embeddings"]):
            found.update(zip(page["ids"], np.asarray(page["embeddings"], dtype=np.float32), strict=True))
        return found

    def gathered(self, page: Any, modes: Sequence[Mode], schema: Schema) -> M3Output:
        """The representations of some records.

        Raises:
            StoreError: a record lacks one; names it.
        """
        ids, held = page["ids"], page["metadatas"]
        dense = sparse = multivector = None
        if "dense" in modes:
            dense = np.asarray(page["embeddings"], dtype=np.float32).reshape(len(ids), schema.dense_dim or 0)
        if "sparse" in modes:
            sparse = [self._sparse(i, metadata or {}) for i, metadata in zip(ids, held, strict=True)]
        if "multivector" in modes:
            beside = self._sidecar_there().get({i: hash_of(metadata) for i, metadata in zip(ids, held, strict=True)})
            for i in ids:
                if i not in beside:
                    raise StoreError(f"record {i!r} has no multivector representation: index it anew, or delete it")
            multivector = [beside[i] for i in ids]
        return M3Output(dense, sparse, multivector, fingerprint=schema.fingerprint)

    @staticmethod
    def _sparse(identifier: str, metadata: Mapping[str, Any]) -> SparseVector:
        if SPARSE not in metadata:
            raise StoreError(f"record {identifier!r} has no sparse representation: index it anew, or delete it")
        return unpacked(metadata[SPARSE])

    def _best_dense(self, queries: M3Output, limit: int, filter: Where | None) -> list[dict[str, float]]:
        answer = self._collection.call(
            "query",
            query_embeddings=queries.dense,
            n_results=limit,
            include=["distances"],
            **where_arguments(filter),
        )
        half = 0.5 if self._collection.space() == "l2" else 1.0  # the square of a distance of unit vectors
        return [
            {i: 1.0 - half * distance for i, distance in zip(ids, distances, strict=True)}
            for ids, distances in zip(answer["ids"], answer["distances"], strict=True)
        ]

    def _beside(self, ids: Sequence[str]) -> dict[str, FloatArray]:
        """The multi-vectors of these records, with a warning if there are not all."""
        hashes = self._derived.hashes(ids)
        found = self._sidecar_there().get(hashes)
        if len(found) < len(hashes):  # they may have been written meanwhile
            again = self._derived.hashes([i for i in hashes if i not in found])
            found.update(self._sidecar_there().get(again))
            if missing := sum(i not in found and content == hashes[i] for i, content in again.items()):
                warnings.warn(
                    f"{missing} records have no multi-vectors in the sidecar, and score 0 by them: index them anew",
                    StoreWarning,
                    stacklevel=2,
                )
        return found

    def _sidecar_there(self) -> Sidecar:
        if self._sidecar is None:
            raise InvalidInput(
                "the multi-vectors are in a directory beside this collection: say with sidecar= in which"
            )
        return self._sidecar


def _largest(scores: Mapping[str, float], limit: int) -> dict[str, float]:
    return dict(heapq.nlargest(limit, scores.items(), key=lambda item: item[1]))


def _similarity(vectors: FloatArray, query: FloatArray, space: str) -> FloatArray:
    """What Chroma would say: `(n,)`."""
    if space == "l2":
        distances: FloatArray = 1.0 - 0.5 * ((vectors - query) ** 2).sum(axis=1)
        return distances
    if space == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        query = query / np.linalg.norm(query)
    products: FloatArray = vectors @ query
    return products
