"""How an embedded Qdrant collection keeps its vectors: what is saved, and what that costs."""

from pathlib import Path

import numpy as np
import pytest
from vectors import records

from m3core import InvalidInput, M3Encoder, M3Output
from m3core.scoring import mode_scores
from m3stores import QdrantSettings, QdrantStore, Record


def recall(store: QdrantStore, queries: M3Output, documents: M3Output, mode: str, k: int = 10) -> float:
    """The share of the truly best k among those found."""
    best = np.argsort(-mode_scores(queries, documents, mode), axis=1)[:, :k]
    found = store.search(queries, k=k, modes=[mode])
    return float(
        np.mean(
            [len({f"{i}" for i in row} & {hit.id for hit in hits}) / k for row, hits in zip(best, found, strict=True)]
        )
    )


@pytest.fixture(scope="module")
def documents(mini: M3Encoder, debate_texts: list[str]) -> M3Output:
    return mini.encode_documents(debate_texts)


@pytest.fixture(scope="module")
def queries(mini: M3Encoder, debate_texts: list[str]) -> M3Output:
    return mini.encode_queries([text[:24] for text in debate_texts[:60]])


def wide(n: int, tokens: int, seed: int) -> M3Output:
    """Multi-vectors as wide as bge-m3's, in clusters, as those of tokens are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(500, 1024))
    rows = [centres[rng.integers(0, 500, tokens)] + 0.8 * rng.normal(size=(tokens, 1024)) for _ in range(n)]
    return M3Output(multivector=[(r / np.linalg.norm(r, axis=1, keepdims=True)).astype(np.float32) for r in rows])


@pytest.mark.parametrize(("kind", "least"), [("float16", 0.995), ("turbo4", 0.95)])
def test_multi_vectors_take_less_room_and_are_found(tmp_path: Path, kind: str, least: float) -> None:
    documents, queries = wide(300, tokens=20, seed=1), wide(40, tokens=8, seed=2)
    with QdrantStore("test", path=tmp_path, settings=QdrantSettings(multivector_type=kind)) as store:
        store.upsert([Record(str(i), "text") for i in range(300)], documents)
        assert recall(store, queries, documents, "multivector") >= least
    with QdrantStore("test", path=tmp_path) as store:  # which remembers how it was made
        assert recall(store, queries, documents, "multivector") >= least


@pytest.mark.parametrize("quantization", ["int8", "turbo4"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_quantized_dense_vectors_find_the_same(
    documents: M3Output, queries: M3Output, quantization: str, on_disk: bool
) -> None:
    settings = QdrantSettings(quantization=quantization, on_disk=on_disk)
    with QdrantStore("test", settings=settings) as store:
        store.upsert([Record(str(i), "text") for i in range(len(documents))], documents)
        store.optimize()
        assert recall(store, queries, documents, "dense") >= 0.99
        (hits,) = store.search(queries[0], k=3, modes=["dense"])
        exact = mode_scores(queries[0], documents, "dense")[0]
        assert hits[0].score == pytest.approx(exact.max(), abs=1e-4)  # by the vectors themselves


@pytest.mark.parametrize("later", [False, True])
def test_indexed_fields_are_filtered_alike(documents: M3Output, tmp_path: Path, later: bool) -> None:
    settings = QdrantSettings(indexed={"number": "integer", "side": "keyword"})
    with QdrantStore("test", path=tmp_path, settings=None if later else settings) as store:
        store.upsert(records(len(documents)), documents)
    for _ in range(2):
        QdrantStore("test", path=tmp_path, settings=settings).close()
    with QdrantStore("test", path=tmp_path) as store:
        wanted = {"side": "pro", "number": {"$gte": 100, "$lt": 120}}
        assert store.count(wanted) == 10
        (hits,) = store.search(documents[0], k=20, filter=wanted)
        assert {hit.metadata["number"] for hit in hits} == set(range(101, 120, 2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"quantization": "int4"}, "quantization is 'int8', 'turbo4' or None"),
        ({"multivector_type": "uint8"}, "multivector_type is 'float16' or 'turbo4'"),
        ({"indexed": {"year": "number"}}, "'year' cannot be indexed as 'number'"),
    ],
)
def test_settings_that_there_are_not(values: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        QdrantSettings(**values)


def test_settings_of_servers_are_refused_without_one() -> None:
    with pytest.raises(InvalidInput, match="are for a server"):
        QdrantStore("test", settings=QdrantSettings(shards=2))
