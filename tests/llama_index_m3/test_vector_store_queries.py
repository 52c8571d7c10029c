"""Each query mode finds what the model's own scores over all texts say, for every kind of collection."""

import numpy as np
import pytest
from llama_index.core.schema import MetadataMode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery

from llama_index.vector_stores.m3 import M3VectorStore
from m3core import DBSF, RRF, CollectionMismatch, InvalidInput, UnsupportedMode, WeightedSum

QUERY = "Paris 亮着灯 水果"
ALL = 8
WEIGHTS = (1.0, 0.1, 0.5)  # of m3-mini


@pytest.fixture(scope="session")
def texts(corpus) -> list[str]:
    return [node.get_content(metadata_mode=MetadataMode.EMBED) for node in corpus]


@pytest.fixture(scope="session")
def scored(embed_model, corpus, texts):
    """What the model's own score says of every node."""
    encoder = embed_model.encoder
    query, documents = encoder.encode_queries([QUERY]), encoder.encode_documents(texts)

    def scores(dense: float, sparse: float, multivector: float = 0.0) -> dict[str, float]:
        values = query.score(documents, weights=(dense, sparse, multivector))[0].tolist()
        return {node.node_id: value for node, value in zip(corpus, values, strict=True)}

    return scores


@pytest.fixture(scope="session")
def cosines(embed_model, texts) -> np.ndarray:
    vectors = embed_model.encoder.encode_documents(texts).dense
    return vectors @ vectors.T


def asked(mode: str = "default", k: int = ALL, **options) -> VectorStoreQuery:
    return VectorStoreQuery(query_str=QUERY, mode=mode, similarity_top_k=k, **options)


def best(scores: dict[str, float], k: int = ALL) -> list[str]:
    return sorted(scores, key=scores.__getitem__, reverse=True)[:k]


def check(result, scores: dict[str, float], k: int = ALL) -> None:
    """The k best by these scores, which the nodes have, but for rounding to float16."""
    assert len(set(result.ids)) == len(result.ids) == min(k, len(scores))
    assert [node.node_id for node in result.nodes] == result.ids
    assert result.similarities == pytest.approx([scores[name] for name in result.ids], abs=2e-3)
    assert result.similarities == pytest.approx(sorted(scores.values(), reverse=True)[:k], abs=2e-3)
    assert result.similarities == sorted(result.similarities, reverse=True)


def test_the_modes_disagree_so_that_the_tests_below_can_fail(embed_model, scored) -> None:
    assert embed_model.encoder.score_weights == WEIGHTS
    orders = [best(scored(*weights)) for weights in ((1, 0), (0, 1), (0, 0, 1), WEIGHTS[:2], WEIGHTS)]
    assert len(set(map(tuple, orders))) == len(orders)


async def test_default_is_dense(filled, scored, call) -> None:
    check(await call(filled, "query", asked()), scored(1, 0))
    check(await call(filled, "query", asked(k=3)), scored(1, 0), k=3)


async def test_a_query_may_be_an_embedding_alone(filled, embed_model, scored, call) -> None:
    embedding = embed_model.get_query_embedding(QUERY)
    check(await call(filled, "query", VectorStoreQuery(query_embedding=embedding, similarity_top_k=4)), scored(1, 0), 4)


async def test_a_given_embedding_counts_in_place_of_the_texts_own(filled, embed_model, texts, scored, call) -> None:
    banana = embed_model.get_text_embedding(texts[4])
    result = await call(filled, "query", asked(query_embedding=banana))
    assert result.ids[0] == "node 5"
    hybrid = await call(filled, "query", asked("hybrid", query_embedding=banana))
    dense = dict(zip(result.ids, result.similarities, strict=True))
    check(hybrid, {name: dense[name] + score for name, score in scored(0, WEIGHTS[1]).items()})


async def test_sparse_is_lexical(filled, scored, call) -> None:
    scores = {name: score for name, score in scored(0, WEIGHTS[1]).items() if score > 0}
    assert 2 < len(scores) < ALL
    result = await call(filled, "query", asked("sparse"))
    check(result, scores, k=len(scores))
    assert (await call(filled, "query", asked("sparse", k=1, sparse_top_k=2))).ids == result.ids[:2]


@pytest.mark.parametrize("alpha", [None, 0, 0.25, 0.5, 1])
async def test_hybrid_is_the_weighted_sum_that_alpha_shifts(filled, scored, call, alpha) -> None:
    dense, sparse, _ = WEIGHTS
    share = 0.5 if alpha is None else alpha
    most = max(share, 1 - share)  # the one that counts more keeps the model's own weight
    weights = (share / most * dense, (1 - share) / most * sparse)
    scores = scored(*weights)
    if alpha == 0:
        scores = {name: score for name, score in scores.items() if score > 0}
    check(await call(filled, "query", asked("hybrid", alpha=alpha)), scores, k=len(scores))
    check(await call(filled, "query", asked("hybrid", alpha=alpha, k=2)), scores, k=2)


async def test_half_alpha_is_the_models_own_sum(filled, call) -> None:
    for mode in ("hybrid", "semantic_hybrid"):
        own, half = await call(filled, "query", asked(mode)), await call(filled, "query", asked(mode, alpha=0.5))
        assert (half.ids, half.similarities) == (own.ids, own.similarities)


async def test_semantic_hybrid_is_the_models_hybrid_score(filled, scored, call) -> None:
    check(await call(filled, "query", asked("semantic_hybrid")), scored(*WEIGHTS))
    dense, sparse, multivector = WEIGHTS
    shifted = await call(filled, "query", asked("semantic_hybrid", alpha=0.25))
    check(shifted, scored(dense / 3, sparse, multivector))


async def test_hybrid_top_k_counts_the_hits_and_similarity_top_k_the_candidates(filled, scored, call) -> None:
    hybrid = scored(*WEIGHTS[:2])
    result = await call(filled, "query", asked("hybrid", k=1, sparse_top_k=1, hybrid_top_k=2))
    assert len(result.ids) == 2
    check(await call(filled, "query", asked("hybrid", k=ALL, hybrid_top_k=3)), hybrid, k=3)
    lexical = scored(0, 1)
    few = set(best(scored(1, 0), 2)) | set(best({name: s for name, s in lexical.items() if s > 0}, 2))
    few_found = await call(filled, "query", asked("hybrid", k=2, sparse_top_k=2))
    check(few_found, {name: hybrid[name] for name in few}, k=2)
    narrow, same, wide = [  # DBSF's scores tell how many candidates there were
        (await call(filled, "query", asked("hybrid", k=2, sparse_top_k=top), fusion=DBSF(), **more)).similarities
        for top, more in ((2, {}), (None, {"candidates": 2}), (None, {}))
    ]
    assert narrow == same != wide


async def test_candidates_and_fusion_may_be_given(filled, scored, call) -> None:
    dense = best(scored(1, 0))
    lexical = [name for name in best(scored(0, 1)) if scored(0, 1)[name] > 0]
    ranked = {name: 1 / (60 + 1 + dense.index(name)) for name in dense}
    for name in dense:
        ranked[name] += 1 / (61 + (lexical.index(name) if name in lexical else len(lexical)))
    result = await call(filled, "query", asked("hybrid"), fusion=RRF())
    assert result.similarities == pytest.approx([ranked[name] for name in result.ids], abs=1e-6)
    summed = await call(filled, "query", asked("hybrid"), fusion=WeightedSum(0.5, 2.0))
    check(summed, scored(0.5, 2.0))
    hybrid = scored(*WEIGHTS[:2])
    pool = {dense[0], lexical[0]}
    result = await call(filled, "query", asked("hybrid", k=1), candidates=1)
    check(result, {name: hybrid[name] for name in pool}, k=1)


def spread(relevance: dict[str, float], cosines: np.ndarray, balance: float, k: int) -> list[str]:
    """Maximal marginal relevance, word by word."""
    place = {f"node {n + 1}": n for n in range(ALL)}
    chosen: list[str] = []
    while len(chosen) < k:
        chosen.append(
            max(
                (name for name in best(relevance) if name not in chosen),
                key=lambda name: (
                    balance * relevance[name]
                    - (1 - balance) * max((cosines[place[name], place[other]] for other in chosen), default=0)
                ),
            )
        )
    return chosen


@pytest.mark.parametrize("balance", [0, 0.3, 1])
async def test_mmr_is_between_relevance_and_difference(filled, scored, cosines, call, balance) -> None:
    expected = spread(scored(1, 0), cosines, balance, 4)
    assert (expected == best(scored(1, 0), 4)) == (balance == 1)
    assert (await call(filled, "query", asked("mmr", k=4, mmr_threshold=balance))).ids == expected
    assert (await call(filled, "query", asked("mmr", k=4), mmr_threshold=balance)).ids == expected


async def test_mmr_chooses_from_so_many_candidates(filled, scored, cosines, call) -> None:
    dense = scored(1, 0)
    assert (await call(filled, "query", asked("mmr", k=2))).ids == spread(dense, cosines, 0.5, 2)
    pool = {name: dense[name] for name in best(dense, 3)}
    expected = spread(pool, cosines, 0, 2)
    assert expected != spread(dense, cosines, 0, 2)
    for few in ({"mmr_prefetch_k": 3}, {"mmr_prefetch_factor": 1.5}, {"candidates": 3}):
        assert (await call(filled, "query", asked("mmr", k=2, mmr_threshold=0), **few)).ids == expected


async def test_mmr_refuses_two_numbers_of_candidates(filled, call) -> None:
    with pytest.raises(InvalidInput, match="either mmr_prefetch_k or mmr_prefetch_factor"):
        await call(filled, "query", asked("mmr"), mmr_prefetch_k=16, mmr_prefetch_factor=2.0)


@pytest.mark.parametrize("mode", ["default", "sparse", "hybrid", "semantic_hybrid", "mmr"])
async def test_node_ids_doc_ids_and_filters_restrict_every_mode(filled, call, mode) -> None:
    nodes = await call(filled, "query", asked(mode, node_ids=["node 1", "node 2", "missing"]))
    assert set(nodes.ids) == {"node 1", "node 2"}
    documents = await call(filled, "query", asked(mode, doc_ids=["doc 1"]))
    assert set(documents.ids) == {"node 1", "node 2"}
    french = MetadataFilters(filters=[MetadataFilter(key="country", value="fr")])
    assert set((await call(filled, "query", asked(mode, filters=french))).ids) <= {"node 1", "node 2", "node 8"}
    both = asked(mode, node_ids=["node 2", "node 3"], doc_ids=["doc 1", "doc 2"], filters=french)
    assert (await call(filled, "query", both)).ids == ["node 2"]
    assert (await call(filled, "query", asked(mode, node_ids=["missing"]))).ids == []
    unrestricted = await call(filled, "query", asked(mode))
    assert (await call(filled, "query", asked(mode, node_ids=[], doc_ids=[]))).ids == unrestricted.ids


@pytest.mark.parametrize("mode", ["text_search", "svm", "logistic_regression", "linear_regression"])
async def test_other_modes_are_refused(filled, call, mode) -> None:
    with pytest.raises(InvalidInput, match=f"no query mode '{mode}' here, but default .* mmr$"):
        await call(filled, "query", asked(mode))


@pytest.mark.parametrize("mode", ["default", "sparse", "hybrid", "semantic_hybrid", "mmr"])
async def test_a_query_without_what_its_mode_needs_is_refused(filled, embed_model, call, mode) -> None:
    with pytest.raises(InvalidInput, match=f"the query mode '{mode}' needs query_str"):
        await call(filled, "query", VectorStoreQuery(mode=mode))
    if mode in ("sparse", "hybrid", "semantic_hybrid"):
        with pytest.raises(InvalidInput, match=f"the query mode '{mode}' needs query_str"):
            await call(filled, "query", VectorStoreQuery(mode=mode, query_embedding=[0.1] * 384))


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        (asked("hybrid", alpha=1.5), {}, "alpha must be between 0 .* and 1 .*, not 1.5"),
        (asked("semantic_hybrid", alpha=-0.1), {}, "alpha must be between"),
        (asked("mmr", mmr_threshold=2.0), {}, "mmr must be .*2.0"),
        (asked(k=0), {}, "k must be a whole number"),
        (asked(), {"prefetch": 3, "mmr_treshold": 1}, "takes candidates, .*, not mmr_treshold, prefetch"),
        (asked("hybrid"), {"fusion": "rrf"}, "fusion must be"),
        (asked("hybrid", k=5), {"candidates": 2}, "candidates must be"),
    ],
)
async def test_bad_arguments_are_refused(filled, call, query, options, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        await call(filled, "query", query, **options)


async def test_an_embedding_of_another_width_is_refused(filled, call) -> None:
    with pytest.raises(CollectionMismatch, match="384"):
        await call(filled, "query", VectorStoreQuery(query_embedding=[0.1] * 8))


async def test_modes_that_the_collection_does_not_keep_are_refused(home, embed_model, corpus, call) -> None:
    vector_store = M3VectorStore(home.open(), embed_model, store_modes=["dense"])
    await call(vector_store, "add", corpus)
    assert vector_store.client.modes == ("dense",)
    assert len((await call(vector_store, "query", asked())).ids) == ALL
    for mode in ("sparse", "hybrid", "semantic_hybrid"):
        with pytest.raises(UnsupportedMode, match="sparse"):
            await call(vector_store, "query", asked(mode))
    with pytest.raises(CollectionMismatch, match="keeps dense"):
        await call(M3VectorStore(vector_store.client, embed_model, store_modes=["sparse"]), "add", corpus)
