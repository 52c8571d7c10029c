"""What the standard tests leave open: searches, filters, scores, bad input."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from store_home import Home

from langchain_m3 import M3Embeddings, M3Retriever, M3VectorStore
from m3core import RRF, CollectionMismatch, InvalidInput, M3Encoder, UnsupportedMode, WeightedSum
from m3stores import QdrantStore

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow.", "东京塔很高。", "首都在哪里？"]
QUERY = "法国首都在哪里？"


def documents() -> list[Document]:
    return [
        Document(text, id=str(i), metadata={"n": i, "even": i % 2 == 0, "tags": ["a", str(i)]})
        for i, text in enumerate(TEXTS)
    ]


@pytest.fixture(scope="module")
def filled(mini: M3Encoder) -> Iterator[M3VectorStore]:
    """Not to be changed."""
    store = M3VectorStore.from_documents(documents(), mini)
    yield store
    store.store.close()


def ids(found: list[Document]) -> list[str]:
    return [document.id for document in found]


def by_score(mini: M3Encoder, weights: tuple[float, float, float] | None = None, query: str = QUERY) -> list[str]:
    scores = mini.encode_queries([query]).score(mini.encode_documents(TEXTS), weights=weights)[0]
    return [str(i) for i in np.argsort(-scores, kind="stable")]


def test_a_search_ranks_as_the_hybrid_score(filled: M3VectorStore, mini: M3Encoder) -> None:
    assert ids(filled.similarity_search(QUERY, k=5)) == by_score(mini)
    scores = mini.encode_queries([QUERY]).score(mini.encode_documents(TEXTS))[0]
    scored = filled.similarity_search_with_score(QUERY, k=5)
    assert [score for _, score in scored] == pytest.approx(sorted(scores.tolist(), reverse=True), abs=1e-3)
    assert scored[0][0] == documents()[int(scored[0][0].id)]


def test_options_of_the_store_and_of_a_call(filled: M3VectorStore, mini: M3Encoder) -> None:
    assert ids(filled.similarity_search(QUERY, k=5, modes=["dense"], rerank=False)) == by_score(mini, (1, 0, 0))
    assert ids(filled.similarity_search(QUERY, 5, weights=(0.1, 0, 1))) == by_score(mini, (0.1, 0, 1))
    assert ids(filled.similarity_search(QUERY, 5, fusion=WeightedSum(0.1, 0, 1))) == by_score(mini, (0.1, 0, 1))
    dense = M3VectorStore(filled.store, mini, modes=["dense"], rerank=False, weights=(1, 0, 0))
    assert ids(dense.similarity_search(QUERY, 5)) == by_score(mini, (1, 0, 0))
    assert dense.similarity_search(QUERY, 5, fusion=RRF(), modes=["dense", "sparse"])
    assert len(filled.similarity_search(QUERY, 5, score_threshold=1.2)) == 2


@pytest.mark.parametrize(
    ("filter", "expected"),
    [({"n": 3}, {"3"}), ({"n": {"$gte": 2}, "even": True}, {"2", "4"}), ({"tags": {"$contains": "1"}}, {"1"})],
)
def test_filters_are_dicts(filled: M3VectorStore, filter: dict, expected: set[str]) -> None:
    assert set(ids(filled.similarity_search(QUERY, k=5, filter=filter))) == expected
    assert set(ids(filled.max_marginal_relevance_search(QUERY, k=5, filter=filter))) == expected
    vector = filled.embeddings.embed_query(QUERY)
    assert set(ids(filled.similarity_search_by_vector(vector, k=5, filter=filter))) == expected


def test_searches_by_vector_are_dense(filled: M3VectorStore, mini: M3Encoder) -> None:
    vector = filled.embeddings.embed_query(QUERY)
    assert ids(filled.similarity_search_by_vector(vector, k=5)) == by_score(mini, (1, 0, 0))
    assert ids(filled.max_marginal_relevance_search_by_vector(vector, k=5, lambda_mult=1.0)) == by_score(
        mini, (1, 0, 0)
    )
    with pytest.raises(CollectionMismatch, match="384 wide"):
        filled.similarity_search_by_vector([0.5, 0.5])
    with pytest.raises(InvalidInput, match="list of numbers"):
        filled.similarity_search_by_vector([vector])


def test_lambda_means_what_it_says(mini: M3Encoder) -> None:
    """1 goes by relevance, 0 by difference, and not the other way round."""
    alike = ["首都在哪里？", "首都在哪里呢？", "首都在哪儿？", "Bananas are yellow.", "他昨天去游泳了。"]
    store = M3VectorStore.from_texts(alike, mini, ids=list("abcde"))
    relevant = store.max_marginal_relevance_search("首都在哪里？", k=3, lambda_mult=1.0)
    assert set(ids(relevant)) == {"a", "b", "c"}
    diverse = store.max_marginal_relevance_search("首都在哪里？", k=3, lambda_mult=0.0)
    assert ids(diverse)[0] == "a"
    assert set(ids(diverse)[1:]) == {"d", "e"}
    assert len(store.max_marginal_relevance_search("首都在哪里？", k=2, fetch_k=1)) == 2


@pytest.mark.parametrize(
    "options", [{}, {"modes": ["dense"], "rerank": False}, {"modes": ["sparse"], "rerank": False}, {"fusion": RRF()}]
)
def test_relevance_lies_between_0_and_1_and_means_something(filled: M3VectorStore, options: dict) -> None:
    scored = {d.id: r for d, r in filled.similarity_search_with_relevance_scores(TEXTS[0], k=5, **options)}
    assert all(0 <= relevance <= 1 for relevance in scored.values())
    assert scored["0"] == pytest.approx(1.0, abs=0.01)
    assert scored["0"] == max(scored.values())
    if not options:
        assert scored["2"] < 0.75


def test_a_threshold_of_relevance(filled: M3VectorStore) -> None:
    (only,) = filled.similarity_search_with_relevance_scores(TEXTS[0], k=5, score_threshold=0.95)
    assert only[0].id == "0"
    retriever = filled.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.95, "k": 5}
    )
    assert ids(retriever.invoke(TEXTS[0])) == ["0"]
    with pytest.raises(ValueError, match="score_threshold"):
        filled.as_retriever(search_type="similarity_score_threshold")


async def test_every_type_of_search_of_a_retriever(filled: M3VectorStore, mini: M3Encoder) -> None:
    expected = {
        "similarity": by_score(mini)[:3],
        "hybrid": by_score(mini)[:3],
        "dense": by_score(mini, (1, 0, 0))[:3],
        "mmr": ids(filled.max_marginal_relevance_search(QUERY, k=3)),
    }
    for kind, order in expected.items():
        retriever = filled.as_retriever(search_type=kind, search_kwargs={"k": 3})
        assert ids(retriever.invoke(QUERY)) == order, kind
        assert ids(await retriever.ainvoke(QUERY)) == order, kind
        assert ids(retriever.invoke(QUERY, k=1)) == order[:1] or kind == "mmr"
    sparse = filled.as_retriever(search_type="sparse")
    assert ids(sparse.invoke("Tokyo")) == ids(await sparse.ainvoke("Tokyo")) == ["1"]
    assert sparse.tags == ["M3VectorStore", "M3Embeddings"]
    with pytest.raises(ValueError, match="bm25"):
        filled.as_retriever(search_type="bm25")
    with pytest.raises(ValueError, match="bm25"):
        filled.search(QUERY, "bm25")


async def test_async_finds_the_same(filled: M3VectorStore) -> None:
    vector = filled.embeddings.embed_query(QUERY)
    assert await filled.asimilarity_search(QUERY) == filled.similarity_search(QUERY)
    assert await filled.asimilarity_search_with_score(QUERY) == filled.similarity_search_with_score(QUERY)
    assert await filled.asimilarity_search_by_vector(vector) == filled.similarity_search_by_vector(vector)
    assert await filled.amax_marginal_relevance_search(QUERY) == filled.max_marginal_relevance_search(QUERY)
    assert await filled.amax_marginal_relevance_search_by_vector(
        vector
    ) == filled.max_marginal_relevance_search_by_vector(vector)
    relevant = filled.similarity_search_with_relevance_scores(QUERY)
    assert await filled.asimilarity_search_with_relevance_scores(QUERY) == relevant
    assert await filled.aget_by_ids(["3", "x", "1"]) == filled.get_by_ids(["3", "x", "1"])


def test_deleting_by_filter_and_altogether(home: Home, mini: M3Encoder) -> None:
    store = M3VectorStore(home.open(), mini, store_modes=["dense"])
    store.add_documents(documents())
    assert store.delete(filter={"even": True}) is True
    assert ids(store.get_by_ids(list("01234"))) == ["1", "3"]
    asyncio.run(store.adelete(filter={"n": 1}))
    assert ids(store.get_by_ids(list("01234"))) == ["3"]
    store.delete([])
    assert store.store.count() == 1
    store.delete()
    assert store.store.count() == 0
    store.add_documents(documents())
    asyncio.run(store.adelete())
    assert store.store.count() == 0


def test_texts_without_ids_are_stored_once(mini: M3Encoder) -> None:
    store = M3VectorStore.from_texts(TEXTS, M3Embeddings(model="m3-mini"), [{"n": i} for i in range(5)])
    again = store.add_texts(TEXTS, [{"n": i} for i in range(5)])
    assert len(set(again)) == store.store.count() == 5
    assert len(store.add_texts(text for text in TEXTS[:2])) == 2  # a generator, with other metadata
    assert store.store.count() == 7


async def test_made_async(mini: M3Encoder) -> None:
    store = await M3VectorStore.afrom_texts(TEXTS, mini, ids=["a", "b", None, None, "e"])
    assert ids(await store.aget_by_ids(["a", "e"])) == ["a", "e"]
    assert (await store.aadd_documents([Document("新的", id="new")])) == ["new"]


def test_over_a_collection_that_is_there(filled: M3VectorStore) -> None:
    store = M3VectorStore(filled.store)  # the collection knows its model
    assert store.encoder.fingerprint == filled.encoder.fingerprint
    assert ids(store.similarity_search(QUERY, 1)) == ["0"]


def test_collections_without_multivectors_are_searched_without(mini: M3Encoder) -> None:
    store = M3VectorStore.from_texts(TEXTS, mini, store_modes=["dense", "sparse"])
    assert store.store.modes == ("dense", "sparse")
    assert store.similarity_search(QUERY, 1)[0].page_content == TEXTS[0]
    with pytest.raises(UnsupportedMode, match="no multivector"):
        store.similarity_search(QUERY, rerank=True)


def test_bad_input_is_refused(filled: M3VectorStore, mini: M3Encoder, m3_dir: object) -> None:
    with pytest.raises(InvalidInput, match=r"a call takes k, .*, not fetch"):
        filled.similarity_search(QUERY, fetch=3)
    with pytest.raises(InvalidInput, match="either weights"):
        filled.similarity_search(QUERY, weights=(1, 1, 1), fusion=RRF())
    for weights in ("1,1,1", ["a", "b"], [1.0], 3):
        with pytest.raises(InvalidInput, match="weights are two or three numbers"):
            M3VectorStore(filled.store, mini, weights=weights)
    with pytest.raises(InvalidInput, match="by vector is dense: it takes no modes, rerank"):
        filled.similarity_search_by_vector([0.0] * 384, modes=["sparse"], rerank=True)
    with pytest.raises(InvalidInput, match="5 texts come with 1 metadatas"):
        M3VectorStore.from_texts(TEXTS, mini, [{}])
    with pytest.raises(InvalidInput, match="5 documents come with 1 ids"):
        filled.add_documents(documents(), ids=["a"])
    with pytest.raises(InvalidInput, match="unknown arguments: batch"):
        filled.add_documents(documents(), batch=3)
    with pytest.raises(InvalidInput, match="not DeterministicFakeEmbedding"):
        M3VectorStore.from_texts(TEXTS, DeterministicFakeEmbedding(size=6))
    with pytest.raises(CollectionMismatch, match="model is 'm3-mini' there"):
        M3VectorStore(filled.store, m3_dir)
    assert filled.store.count() == 5


def test_what_could_not_be_opened_is_closed(mini: M3Encoder, tmp_path: object) -> None:
    with pytest.raises(InvalidInput, match="reserved"):
        M3VectorStore.from_texts(["a"], mini, [{"_m3_x": 1}], path=tmp_path)
    QdrantStore("documents", path=tmp_path).close()  # which a store left open would not allow


def test_a_store_that_was_given_stays_open_when_something_fails(mini: M3Encoder) -> None:
    with QdrantStore("given") as given:
        M3VectorStore(given, mini).add_texts(["of value"])
        with pytest.raises(InvalidInput, match="reserved"):
            M3VectorStore.from_texts(["x"], mini, [{"_m3_x": 1}], store=given)
        assert given.count() == 1


def test_components_by_name_share_one_model() -> None:
    store = M3VectorStore(QdrantStore("one"), "m3-mini")
    other = M3VectorStore(QdrantStore("two"), "m3-mini")
    assert store.encoder is other.encoder is M3Embeddings(model="m3-mini").encoder


def test_what_a_retriever_added_for_information_is_not_stored(mini: M3Encoder) -> None:
    retriever = M3Retriever.from_texts(TEXTS, encoder=mini, include_scores=True, include_tokens=True)
    found = retriever.invoke(QUERY)
    store = M3VectorStore(QdrantStore("again"), mini)
    store.add_documents(found)
    assert store.get_by_ids([found[0].id])[0].metadata == {}


def test_relevance_by_ranks_is_that_of_the_weighted_sum(filled: M3VectorStore) -> None:
    """The first by rank may be far from the query."""
    ((_, lone),) = filled.similarity_search_with_relevance_scores(QUERY, filter={"n": 2}, fusion=RRF())
    ((_, summed),) = filled.similarity_search_with_relevance_scores(QUERY, filter={"n": 2})
    assert lone == summed < 0.75


def test_lambda_means_the_same_where_vectors_have_no_unit_length(m3e_dir: object) -> None:
    texts = ["the one", "the one ", "the one  ", "9 8 7 6 5 4"]
    orders = []
    for normalize in (False, True):
        encoder = M3Encoder(m3e_dir, normalize=normalize, dtype="float32")
        store = M3VectorStore.from_texts(texts, encoder, ids=list("abcd"))
        orders.append(ids(store.max_marginal_relevance_search("the one", k=2, lambda_mult=0.2)))
    assert orders[0] == orders[1] == ["a", "d"]
