"""The stand-in for a Qdrant server, asked by the real client: over HTTP and gRPC, blocking and asyncio."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

from qdrant_client import models as m
from qdrant_standin import RestServer, RpcServer
from qdrant_standin.asking import KINDS, Ask, asking, both_servers, field, refusal
from qdrant_standin.sample import DENSE, DIM, FLAGS, MULTI, SPARSE, VECTORS, N, point, sparse


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RestServer, RpcServer]]:
    with both_servers() as servers:
        yield servers


@pytest.fixture(params=KINDS)
def ask(request: pytest.FixtureRequest, servers: tuple[RestServer, RpcServer]) -> Iterator[Ask]:
    with asking(request.param, *servers) as asked:
        yield asked


@pytest.fixture
def filled(ask: Ask) -> Iterator[Ask]:
    ask.create_collection("c", VECTORS, sparse_vectors_config={"sparse": m.SparseVectorParams()})
    ask.upsert("c", [point(n) for n in range(N)])
    yield ask
    ask.delete_collection("c")


def is_same(points: list[m.ScoredPoint], scores: np.ndarray, keep: np.ndarray | None = None) -> None:
    """The points are the best by the scores, in order."""
    scores = scores if keep is None else np.where(keep, scores, -np.inf)
    best = np.argsort(-scores)[: len(points)]
    assert [p.id for p in points] == best.tolist()
    assert [p.score for p in points] == pytest.approx(scores[best].tolist(), abs=1e-5)


def test_searches(filled: Ask) -> None:
    rng = np.random.default_rng(8)
    query = rng.normal(size=DIM).astype(np.float32)
    tokens = rng.normal(size=(3, 4)).astype(np.float32)
    terms = {3: 0.5, 7: 1.0, 11: 0.25, 19: 2.0}
    dense = DENSE @ query
    maxsim = np.array([(rows @ tokens.T).max(axis=0).sum() for rows in MULTI])
    lexical = np.array([sum(terms.get(i, 0) * w for i, w in weights.items()) for weights in SPARSE])
    asked = m.SearchParams(exact=True)
    is_same(filled.query_points("c", query.tolist(), using="dense", limit=9, search_params=asked).points, dense)
    is_same(filled.query_points("c", tokens.tolist(), using="multi", limit=9).points, maxsim)
    is_same(filled.query_points("c", sparse(terms), using="sparse", limit=5).points, lexical)

    flagged = field("flag", match=m.MatchValue(value=True))
    batch = [
        m.QueryRequest(query=query.tolist(), using="dense", limit=4, filter=flagged, with_payload=["n"]),
        m.QueryRequest(query=sparse(terms), using="sparse", limit=3, with_vector=["sparse"]),
        m.QueryRequest(query=query.tolist(), using="dense", limit=N, score_threshold=float(np.median(dense))),
    ]
    first, second, third = (answer.points for answer in filled.query_batch_points("c", batch))
    is_same(first, dense, np.array(FLAGS))
    assert [p.payload for p in first] == [{"n": p.id} for p in first]
    is_same(second, lexical)
    assert [set(p.vector) for p in second] == [{"sparse"}] * 3
    is_same(third, dense)
    assert len(third) == N // 2
    fused = filled.query_points(
        "c",
        m.FusionQuery(fusion=m.Fusion.RRF),
        prefetch=[
            m.Prefetch(query=query.tolist(), using="dense", limit=10),
            m.Prefetch(query=tokens.tolist(), using="multi", limit=10),
        ],
        limit=N,
    ).points
    expected: dict[int, float] = {}
    for scores in (dense, maxsim):
        for rank, n in enumerate(np.argsort(-scores)[:10].tolist()):
            expected[n] = expected.get(n, 0) + 1 / (2 + rank)
    assert {p.id: p.score for p in fused} == pytest.approx(expected, rel=1e-5)


def test_filters(filled: Ask) -> None:
    match_true, match_one = m.MatchValue(value=True), m.MatchValue(value=1)
    is_flag = m.FieldCondition(key="flag", match=match_true)
    is_low = m.FieldCondition(key="n", range=m.Range(lt=10))
    is_t1 = m.FieldCondition(key="tags", match=m.MatchValue(value="t1"))
    cases: list[tuple[m.Filter, Callable[[int], bool]]] = [
        (field("flag", match=match_true), lambda n: FLAGS[n]),
        (field("flag", match=m.MatchValue(value=False)), lambda n: not FLAGS[n]),
        (field("flag", match=match_one), lambda n: False),
        (field("n", match=match_true), lambda n: False),
        (field("n", match=match_one), lambda n: n == 1),
        (field("tags", match=m.MatchAny(any=["t1", "t2"])), lambda n: n % 4 in (1, 2)),
        (field("n", match=m.MatchExcept(**{"except": [1, 2]})), lambda n: n not in (1, 2)),
        (field("tags", match=m.MatchText(text="t3")), lambda n: n % 4 == 3),
        (field("n", range=m.Range(gte=5, lt=9)), lambda n: 5 <= n < 9),
        (field("tags", values_count=m.ValuesCount(gt=2)), lambda n: False),
        (m.Filter(must=[m.IsEmptyCondition(is_empty=m.PayloadField(key="none"))]), lambda n: True),
        (m.Filter(must=[m.IsNullCondition(is_null=m.PayloadField(key="none"))]), lambda n: n % 5 == 0),
        (m.Filter(must=[m.HasIdCondition(has_id=[3, 5, 99])]), lambda n: n in (3, 5)),
        (m.Filter(must=[m.HasVectorCondition(has_vector="sparse")]), lambda n: True),
        (m.Filter(should=[is_flag, is_low]), lambda n: FLAGS[n] or n < 10),
        (m.Filter(must=[is_low], must_not=[is_flag]), lambda n: n < 10 and not FLAGS[n]),
        (
            m.Filter(min_should=m.MinShould(conditions=[is_flag, is_low, is_t1], min_count=2)),
            lambda n: FLAGS[n] + (n < 10) + (n % 4 == 1) >= 2,
        ),
        (
            m.Filter(must=[m.NestedCondition(nested=m.Nested(key="nested", filter=field("ok", match=match_true)))]),
            lambda n: FLAGS[n],
        ),
        (m.Filter(must=[m.Filter(should=[is_t1, is_low]), is_flag]), lambda n: (n % 4 == 1 or n < 10) and FLAGS[n]),
    ]
    for asked, holds in cases:
        found, _ = filled.scroll("c", asked, limit=N, with_payload=False)
        assert [p.id for p in found] == [n for n in range(N) if holds(n)], asked
        assert filled.count("c", asked).count == len(found)
    refusal(400, filled.count, "c", field("a..b", match=match_true))


def test_reading(filled: Ask) -> None:
    one, two = filled.retrieve("c", [4, 77, 2], with_vectors=True)
    assert (one.id, two.id, one.payload) == (4, 2, point(4).payload)
    assert one.vector["dense"] == pytest.approx(DENSE[4].tolist())
    assert np.array(one.vector["multi"]) == pytest.approx(MULTI[4])
    weights = dict(zip(one.vector["sparse"].indices, one.vector["sparse"].values, strict=True))
    assert weights == pytest.approx(SPARSE[4])
    assert filled.retrieve("c", [4], with_payload=["n"])[0].payload == {"n": 4}
    without = m.PayloadSelectorExclude(exclude=["tags", "nested", "flag"])
    assert filled.retrieve("c", [4], with_payload=without)[0].payload == {"n": 4}
    assert set(filled.retrieve("c", [4], with_vectors=["dense"])[0].vector) == {"dense"}
    seen, offset, pages = [], None, 0
    while pages == 0 or offset is not None:
        found, offset = filled.scroll("c", limit=15, offset=offset)
        seen += [p.id for p in found]
        pages += 1
    assert (seen, pages) == (list(range(N)), 3)


def test_writing(filled: Ask) -> None:
    filled.update_vectors("c", [m.PointVectors(id=0, vector={"dense": [1.0] * DIM})])
    filled.delete_vectors("c", ["multi"], [0])
    assert set(filled.retrieve("c", [0], with_vectors=True)[0].vector) == {"dense", "sparse"}
    filled.set_payload("c", {"x": True}, field("n", range=m.Range(lt=2)))
    filled.set_payload("c", {"deep": 1}, [1], key="more")
    filled.delete_payload("c", ["nested", "tags", "none"], [0, 1])
    assert [p.payload for p in filled.retrieve("c", [0, 1])] == [
        {"n": 0, "flag": True, "x": True},
        {"n": 1, "flag": False, "x": True, "more": {"deep": 1}},
    ]
    filled.overwrite_payload("c", {"y": None}, [1])
    filled.clear_payload("c", [0])
    assert [p.payload for p in filled.retrieve("c", [0, 1])] == [{}, {"y": None}]
    filled.delete("c", [5, 6, 999])
    filled.delete("c", field("n", range=m.Range(gte=30)))
    assert filled.count("c").count == 28

    old, new = m.PointStruct(id=7, vector={}, payload={"v": 1}), m.PointStruct(id=700, vector={}, payload={"v": 1})
    filled.upsert("c", [old, new], update_mode=m.UpdateMode.INSERT_ONLY)
    assert [p.payload.get("v") for p in filled.retrieve("c", [7, 700])] == [None, 1]
    filled.upsert(
        "c", [m.PointStruct(id=7, vector={}, payload={"v": 2})], update_filter=field("n", range=m.Range(lt=0))
    )
    assert filled.retrieve("c", [7])[0].payload["n"] == 7
    results = filled.batch_update_points(
        "c",
        [
            m.UpsertOperation(upsert=m.PointsList(points=[point(30)])),
            m.DeleteOperation(delete=m.PointIdsList(points=[700])),
            m.SetPayloadOperation(set_payload=m.SetPayload(payload={"z": 1}, points=[30])),
        ],
    )
    assert len(results) == 3
    assert [p.payload["z"] for p in filled.retrieve("c", [30, 700])] == [1]


def test_collections(ask: Ask) -> None:
    assert ask.info().version.startswith("1.20")
    assert not ask.collection_exists("k")
    ask.create_collection(
        "k",
        {**VECTORS, "small": m.VectorParams(size=4, distance=m.Distance.COSINE, datatype=m.Datatype.FLOAT16)},
        sparse_vectors_config={"sparse": m.SparseVectorParams(modifier=m.Modifier.IDF)},
        shard_number=2,
        replication_factor=2,
        on_disk_payload=False,
        hnsw_config=m.HnswConfigDiff(m=0),
        quantization_config=m.ScalarQuantization(scalar=m.ScalarQuantizationConfig(type=m.ScalarType.INT8)),
        metadata={"schema": 1, "by": "test"},
    )
    refusal(409, ask.create_collection, "k", {})
    assert ask.collection_exists("k")
    ask.create_payload_index("k", "tag", m.PayloadSchemaType.KEYWORD)
    ask.create_payload_index("k", "flag", m.BoolIndexParams(type=m.BoolIndexType.BOOL, on_disk=True))
    ask.upsert("k", [m.PointStruct(id=1, vector={}, payload={"tag": "a", "flag": True})])
    info = ask.get_collection("k")
    params = info.config.params
    assert (params.shard_number, params.replication_factor, params.on_disk_payload) == (2, 2, False)
    assert params.vectors["multi"].hnsw_config.m == 0
    assert params.vectors["multi"].on_disk
    assert params.vectors["small"].datatype == m.Datatype.FLOAT16
    assert params.sparse_vectors["sparse"].modifier == m.Modifier.IDF
    assert info.config.quantization_config.scalar.type == m.ScalarType.INT8
    assert (info.config.hnsw_config.m, info.config.metadata) == (0, {"schema": 1, "by": "test"})
    assert {name: (i.data_type.value, i.points) for name, i in info.payload_schema.items()} == {
        "tag": ("keyword", 1),
        "flag": ("bool", 1),
    }
    assert info.points_count == ask.count("k", field("flag", match=m.MatchValue(value=True))).count == 1
    ask.delete_payload_index("k", "flag")

    ask.update_collection(
        "k",
        hnsw_config=m.HnswConfigDiff(m=16),
        optimizers_config=m.OptimizersConfigDiff(indexing_threshold=0),
        vectors_config={"dense": m.VectorParamsDiff(hnsw_config=m.HnswConfigDiff(m=8))},
        quantization_config=m.Disabled.DISABLED,
        metadata={"by": "again", "more": [1]},
    )
    config = ask.get_collection("k").config
    assert (config.hnsw_config.m, config.optimizer_config.indexing_threshold) == (16, 0)
    assert (config.params.vectors["dense"].hnsw_config.m, config.quantization_config) == (8, None)
    assert config.metadata == {"schema": 1, "by": "again", "more": [1]}

    ask.create_vector_name("k", "d2", m.DenseVectorNameConfig(dense=m.DenseVectorConfig(size=2, distance="Dot")))
    ask.create_vector_name("k", "s2", m.SparseVectorNameConfig(sparse=m.SparseVectorConfig()))
    ask.update_vectors("k", [m.PointVectors(id=1, vector={"d2": [1.0, 2.0], "s2": sparse({1: 1.0})})])
    assert ask.query_points("k", [1.0, 1.0], using="d2").points[0].score == 3
    ask.delete_vector_name("k", "d2")
    assert set(ask.retrieve("k", [1], with_vectors=True)[0].vector) == {"s2"}
    refusal(400, ask.query_points, "k", [1.0, 1.0], using="d2")

    link = m.CreateAlias(collection_name="k", alias_name="now")
    ask.update_collection_aliases([m.CreateAliasOperation(create_alias=link)])
    assert ask.count("now").count == 1
    assert ask.get_collection_aliases("k").aliases == ask.get_aliases().aliases
    assert ask.get_aliases().aliases == [m.AliasDescription(alias_name="now", collection_name="k")]
    ask.update_collection_aliases([m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name="now"))])
    refusal(404, ask.count, "now")
    assert [c.name for c in ask.get_collections().collections] == ["k"]
    assert ask.delete_collection("k")
    assert not ask.delete_collection("k")


def test_one_unnamed_vector(ask: Ask) -> None:
    ask.create_collection("u", m.VectorParams(size=2, distance=m.Distance.COSINE))
    uuid = "6d33a0b1-52f4-4c87-9d0e-3f8f5c1c7a42"
    ask.upsert("u", m.Batch(ids=[1, uuid], vectors=[[3.0, 4.0], [1.0, 0.0]], payloads=[{"a": 1}, {"a": 2}]))
    found = ask.query_points("u", [1.0, 0.0], with_vectors=True).points
    assert [(p.id, p.payload["a"]) for p in found] == [(uuid, 2), (1, 1)]
    assert found[1].vector == pytest.approx([0.6, 0.8])
    ask.delete_collection("u")


def test_rules(filled: Ask) -> None:
    def upsert(vector: Any) -> None:
        filled.upsert("c", [m.PointStruct(id=1, vector=vector, payload={})])

    assert refusal(404, filled.count, "no") == "Not found: Collection `no` doesn't exist!"
    assert "expected dim: 8, got 2" in refusal(400, upsert, {"dense": [1.0, 2.0]})
    assert "expected dim: 8, got 2" in refusal(400, filled.query_points, "c", [1.0, 2.0], using="dense")
    assert "Not existing vector name" in refusal(400, upsert, {"no": [1.0]})
    refusal(400, upsert, {"dense": sparse({1: 1.0})})
    assert "must be unique" in refusal(422, upsert, {"sparse": m.SparseVector(indices=[1, 1], values=[1.0, 2.0])})
    refusal(422, upsert, {"sparse": m.SparseVector(indices=[1, 2], values=[1.0])})
    refusal(422, upsert, {"multi": [[1.0], [1.0, 2.0]]})
    refusal(404, filled.set_payload, "c", {"a": 1}, [999])
    refusal(422, filled.query_points, "c", m.SparseVector(indices=[1, 1], values=[1.0, 2.0]), using="sparse")
    points, vector = filled.count("c").count, filled.retrieve("c", [1], with_vectors=True)[0].vector
    assert (points, vector["dense"]) == (N, pytest.approx(DENSE[1].tolist()))
    upsert({"dense": DENSE[1].tolist()})  # after all this, the shard still takes points


def test_large_multivector(ask: Ask) -> None:
    ask.create_collection("big", {"multi": VECTORS["multi"].model_copy(update={"size": 1024})})
    vector = np.ones((1024, 1024)).tolist()
    assert "1048576" in refusal(422, ask.upsert, "big", [m.PointStruct(id=1, vector={"multi": vector})])
    ask.upsert("big", [m.PointStruct(id=1, vector={"multi": vector[:9]})])
    ask.delete_collection("big")
