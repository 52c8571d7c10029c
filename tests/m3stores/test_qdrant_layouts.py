"""`QdrantStore` on collections that other programs made, through the stand-in."""

import json
import uuid
from typing import Any

import numpy as np
import pytest

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

from qdrant_client import models as m
from qdrant_standin.serving import Serving
from vectors import DIM, KNOWN, WEIGHTS, random_output

from m3core import CollectionMismatch, InvalidInput, M3Output, UnsupportedMode
from m3stores import Record
from m3stores.qdrant.layout import LANGCHAIN, LLAMA_INDEX, Layout

N = 30
MODES = ("dense", "sparse")
IDS = [str(uuid.UUID(int=n)) for n in range(N)]
COSINE = m.VectorParams(size=DIM, distance=m.Distance.COSINE)
SPARSE = {"langchain-sparse": m.SparseVectorParams()}


def metadata(n: int) -> dict[str, Any]:
    return {"number": n, "side": "pro" if n % 2 else "con", "deep": {"year": 2000 + n}}


def sparse(output: M3Output, row: int) -> m.SparseVector:
    return m.SparseVector(indices=output.sparse[row].indices.tolist(), values=output.sparse[row].values.tolist())


@pytest.fixture
def langchain(server: Serving) -> Serving:
    """With a collection as langchain-qdrant makes it for hybrid search."""
    output = random_output(N, modes=MODES)
    points = [
        m.PointStruct(
            id=IDS[n],
            vector={"": output.dense[n].tolist(), "langchain-sparse": sparse(output, n)},
            payload={"page_content": f"text {n}", "metadata": metadata(n)},
        )
        for n in range(N)
    ]
    with server.client() as client:
        client.create_collection("test", COSINE, sparse_vectors_config=SPARSE)
        client.upsert("test", points)
    return server


def queries(*modes: str) -> M3Output:
    return random_output(2, seed=1, modes=modes)


def expected(asked: M3Output) -> list[dict[str, float]]:
    return [dict(zip(IDS, row, strict=True)) for row in asked.score(random_output(N, modes=MODES)).tolist()]


def test_langchains_collections_are_searched(langchain: Serving) -> None:
    with langchain.store(layout=LANGCHAIN) as store:
        assert (store.modes, store.schema.dense_dim, store.schema.foreign) == (MODES, DIM, True)
        for modes in (("dense",), ("dense", "sparse")):
            asked = queries(*modes)
            for hits, scores in zip(store.search(asked, k=N, candidates=N, modes=modes), expected(asked), strict=True):
                assert {hit.id: hit.score for hit in hits} == pytest.approx(scores, abs=1e-4)
                assert all(hit.text == f"text {hit.metadata['number']}" for hit in hits)
        with pytest.raises(UnsupportedMode, match="has no multivector representations; it has dense, sparse"):
            store.search(random_output(1), rerank=True)


def test_langchains_collections_are_read(langchain: Serving) -> None:
    with langchain.store(layout=LANGCHAIN) as store:
        assert store.count() == N
        assert store.get([IDS[3], "no uuid", str(uuid.uuid4()), IDS[1]]) == [
            Record(IDS[n], f"text {n}", metadata(n)) for n in (3, 1)
        ]
        wanted = {"side": "pro", "deep.year": {"$gte": 2020}}
        numbers = {21, 23, 25, 27, 29}
        assert {hit.metadata["number"] for hit in store.search(queries(*MODES), filter=wanted)[0]} == numbers
        assert store.count(wanted) == 5
        (page,) = store.scroll(filter=wanted, with_vectors=True)
        assert {record.metadata["number"] for record in page.records} == numbers
        held = random_output(N, modes=MODES)[[record.metadata["number"] for record in page.records]]
        assert page.output.dense == pytest.approx(held.dense, abs=1e-6)
        for given, own in zip(page.output.sparse, held.sparse, strict=True):
            assert given.indices.tolist() == own.indices.tolist()
        assert sum(len(page.records) for page in store.scroll(size=7)) == N
        hits = store.search(queries(*MODES), k=5, mmr=0.5)[0]
        assert len({hit.id for hit in hits}) == 5


async def test_langchains_collections_are_searched_async(langchain: Serving) -> None:
    async with langchain.store(layout=LANGCHAIN) as store:
        assert await store.asearch(queries(*MODES), k=5) == store.search(queries(*MODES), k=5)


def test_langchains_collections_are_written_with_adopt_only(langchain: Serving) -> None:
    new, output = [Record(IDS[0], "new", {"number": 100})], random_output(1, seed=5, modes=MODES)
    with langchain.store(layout=LANGCHAIN) as store:
        with pytest.raises(CollectionMismatch, match=r"another program made .* open it with adopt=True"):
            store.upsert(new, output)
        with pytest.raises(CollectionMismatch, match=r"another program made .* open it with adopt=True"):
            store.add_modes(["multivector"], lambda some: random_output(len(some)))
        assert store.get(IDS[:1]) == [Record(IDS[0], "text 0", metadata(0))]
    with langchain.client() as client:
        before = client.get_collection("test").config.params

    number = Record("77", "by number", {})
    with langchain.store(layout=LANGCHAIN, adopt=True) as store:
        for other in ("doc 0", IDS[0].upper() + "X", "007", "٣", "9" * 30, "-1"):
            with pytest.raises(InvalidInput, match="is no UUID or number"):
                store.upsert([Record(other, "text")], output)
        store.upsert([*new, number], M3Output.concat([output, output]))
        assert (store.count(), store.schema.fingerprint, store.schema.foreign) == (N + 1, KNOWN, False)
        assert store.get([IDS[0], "77"]) == [*new, number]
        store.delete(["77"])
        with pytest.raises(CollectionMismatch, match="made by another encoder"):
            store.search(random_output(1, made_by=KNOWN.__class__(**{**vars(KNOWN), "model": "another"})))

    with langchain.client() as client:  # LangChain finds it all as it knows it
        assert client.get_collection("test").config.params == before
        (point,) = client.retrieve("test", IDS[:1], with_vectors=True)
        assert (point.payload["page_content"], point.payload["metadata"]) == ("new", {"number": 100})
        assert set(point.vector) == {"", "langchain-sparse"}
        answer = client.query_points("test", output.dense[0].tolist(), limit=1, with_payload=True)
        assert answer.points[0].payload["page_content"] == "new"
    with langchain.store(layout=LANGCHAIN) as store:  # it is one of ours now
        store.upsert([Record(IDS[1], "newer", {})], output)
    with pytest.raises(CollectionMismatch, match="has vectors called '', 'langchain-sparse': say with layout="):
        langchain.store()


def test_vectors_are_added_to_langchains_dense_collection_or_it_says_why_not(server: Serving) -> None:
    with server.client() as client:
        client.create_collection("test", COSINE)
        points = [m.PointStruct(id=n, vector=[1.0] * DIM, payload={"page_content": "text"}) for n in range(3)]
        client.upsert("test", points)
    with server.store(layout=LANGCHAIN, adopt=True) as store:
        assert store.modes == ("dense",)
        server.order("add vector", status=400)
        with pytest.raises(InvalidInput, match=r"vectors called 'langchain-sparse', which takes Qdrant 1\.18"):
            store.add_modes(["sparse"], lambda some: random_output(len(some)))
        assert store.modes == ("dense",)
        assert [hit.id for hit in store.search(random_output(1, modes=("dense",)))[0]] == ["0", "1", "2"]
        store.add_modes(["sparse"], lambda some: random_output(len(some)))
        assert store.modes == ("dense", "sparse")
        assert len(store.search(random_output(1), modes=["sparse"])[0]) > 0


@pytest.fixture
def llama_index(server: Serving) -> Serving:
    """With a collection as llama-index-vector-stores-qdrant makes it for hybrid search."""
    schema = pytest.importorskip("llama_index.core.schema")
    utils = pytest.importorskip("llama_index.core.vector_stores.utils")
    output = random_output(N, modes=MODES)
    points = []
    for n in range(N):
        source = {schema.NodeRelationship.SOURCE: schema.RelatedNodeInfo(node_id=f"file {n % 3}")}
        node = schema.TextNode(id_=IDS[n], text=f"text {n}", metadata=metadata(n), relationships=source)
        payload = utils.node_to_metadata_dict(node, remove_text=False, flat_metadata=False)
        vector = {"text-dense": output.dense[n].tolist(), "text-sparse-new": sparse(output, n)}
        points.append(m.PointStruct(id=IDS[n], vector=vector, payload=payload))
    with server.client() as client:
        client.create_collection(
            "test", {"text-dense": COSINE}, sparse_vectors_config={"text-sparse-new": m.SparseVectorParams()}
        )
        client.upsert("test", points)
    return server


def test_llama_indexs_collections_are_searched_and_read(llama_index: Serving) -> None:
    with llama_index.store(layout=LLAMA_INDEX) as store:
        assert store.modes == MODES
        asked = queries(*MODES)
        for hits, scores in zip(store.search(asked, k=N, candidates=N), expected(asked), strict=True):
            assert {hit.id: hit.score for hit in hits} == pytest.approx(scores, abs=1e-4)
        (record,) = store.get([IDS[4]])
        assert (record.id, record.text) == (IDS[4], "text 4")
        assert metadata(4).items() <= record.metadata.items()
        assert (record.metadata["doc_id"], record.metadata["ref_doc_id"]) == ("file 1", "file 1")
        assert "_node_content" not in record.metadata
        assert store.count({"ref_doc_id": "file 1"}) == 10
        found = store.search(asked, filter={"side": "con", "deep.year": {"$lt": 2006}, "doc_id": {"$ne": "file 1"}})
        assert {hit.metadata["number"] for hit in found[0]} == {0, 2}
        (page,) = store.scroll(filter={"number": 9}, with_vectors=True)
        assert page.output.dense[0] == pytest.approx(random_output(N, modes=MODES).dense[9], abs=1e-6)


def test_llama_indexs_collections_are_not_written(llama_index: Serving) -> None:
    for adopt in (False, True):
        with llama_index.store(layout=LLAMA_INDEX, adopt=adopt) as store:
            with pytest.raises(InvalidInput, match="can be read, not written"):
                store.upsert([Record(IDS[0], "new")], random_output(1, modes=MODES))
            assert store.get([IDS[0]])[0].text == "text 0"
    with llama_index.client() as client:
        (point,) = client.retrieve("test", IDS[:1])
        assert json.loads(point.payload["_node_content"])["id_"] == IDS[0]


def test_a_layout_of_ones_own(server: Serving) -> None:
    own = Layout(dense="d", sparse="s", multivector="colbert", id=None, text="body", metadata=None)
    output = random_output(3)
    multi = m.MultiVectorConfig(comparator=m.MultiVectorComparator.MAX_SIM)
    vectors = {
        "d": m.VectorParams(size=DIM, distance=m.Distance.DOT),
        "colbert": m.VectorParams(size=8, distance=m.Distance.DOT, multivector_config=multi),
        "more": m.VectorParams(size=2, distance=m.Distance.EUCLID),
    }
    points = [
        m.PointStruct(
            id=n,
            vector={
                "d": output.dense[n].tolist(),
                "s": sparse(output, n),
                "colbert": output.multivector[n].tolist(),
                "more": [1.0, 2.0],
            },
            payload={"body": f"text {n}", "number": n},
        )
        for n in range(3)
    ]
    with server.client() as client:
        client.create_collection("test", vectors, sparse_vectors_config={"s": m.SparseVectorParams()})
        client.upsert("test", points)
    with server.store(layout=own) as store:
        (hits,) = store.search(output[:1], rerank=True, filter={"number": {"$lt": 2}})
        scores = dict(zip(["0", "1"], output[:1].score(output)[0].tolist(), strict=False))
        assert {hit.id: hit.score for hit in hits} == pytest.approx(scores, abs=1e-4)
        assert store.get(["0"]) == [Record("0", "text 0", {"number": 0})]


def test_unknown_vector_names(server: Serving) -> None:
    with server.client() as client:
        client.create_collection(
            "test", {"a": COSINE, "b": COSINE}, sparse_vectors_config={"c": m.SparseVectorParams()}
        )
    for layout in ({}, {"layout": LANGCHAIN}, {"layout": LLAMA_INDEX}):
        with pytest.raises(CollectionMismatch, match="has vectors called 'a', 'b', 'c': say with layout= which"):
            server.store(**layout)
    with pytest.raises(CollectionMismatch, match="ids of their points: give layout= with id=None"):
        server.store(layout=Layout(dense="b", sparse="c"))
    with server.store(layout=Layout(dense="b", sparse="c", id=None)) as store:
        assert store.modes == MODES
    with server.store("ours") as store:
        store.upsert([Record("a", "text")], random_output(1))
    with pytest.raises(CollectionMismatch, match="has vectors called 'dense', 'multivector', 'sparse': say with"):
        server.store("ours", layout=Layout(sparse="other"))


def test_other_distances(server: Serving) -> None:
    with server.client() as client:
        client.create_collection("test", m.VectorParams(size=DIM, distance=m.Distance.EUCLID))
    with pytest.raises(CollectionMismatch, match="compares dense vectors by Euclid, not Dot"):
        server.store(layout=LANGCHAIN)


def test_widths_are_compared_where_the_encoder_is_not_known(langchain: Serving) -> None:
    with langchain.store(layout=LANGCHAIN) as store:
        with pytest.raises(CollectionMismatch, match="dense vectors 16 wide, and these are 24 wide"):
            store.search(random_output(1, modes=("dense",), dim=24), modes=["dense"])
        store.search(M3Output(np.ones((1, DIM), np.float32), None, None, WEIGHTS, None), modes=["dense"])
