import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from counting import counted_passes, counted_ticks
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from pydantic import ValidationError
from tiny import save_m3

from langchain_m3 import M3Embeddings, M3Retriever
from m3core import RRF, CollectionLocked, CollectionMismatch, InvalidInput, M3Encoder, VectorCache, WeightedSum
from m3stores import QdrantStore

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow.", "东京塔很高。"]
METADATA = [{"country": "法国", "n": 1}, {"country": "Japan", "n": 2}, {"n": 3}, {"country": "Japan", "n": 4}]


@pytest.fixture(scope="module")
def retriever(mini: M3Encoder) -> M3Retriever:
    return M3Retriever.from_texts(TEXTS, METADATA, encoder=mini, k=2, include_scores=True)


def test_it_finds_what_is_meant(retriever: M3Retriever) -> None:
    best, second = retriever.invoke("法国首都在哪里？")
    assert best.page_content == TEXTS[0]
    assert best.metadata.pop("_m3_scores")["score"] > second.metadata["_m3_scores"]["score"]
    assert best.metadata == METADATA[0]
    assert best.id


@pytest.fixture(scope="module")
def full(debate_texts: list[str]) -> tuple[M3Encoder, M3Retriever]:
    """In float32, where a text's vectors do not depend on its neighbours."""
    encoder = M3Encoder("m3-mini", dtype="float32", cache=VectorCache())  # the corpus is asked for twice
    return encoder, M3Retriever.from_texts(debate_texts, encoder=encoder, include_scores=True)


def test_by_default_it_ranks_as_the_score_over_the_whole_corpus(full, debate_texts: list[str], debate_queries) -> None:
    """Float16 multi-vectors may swap documents whose scores are closer than the tolerance."""
    encoder, retriever = full
    documents = encoder.encode_documents(debate_texts)
    number = {text: i for i, text in enumerate(debate_texts)}
    for query in debate_queries[::4]:
        scores = encoder.encode_queries([query]).score(documents)[0]
        best = np.sort(scores)[::-1]
        found = retriever.invoke(query, k=10, candidates=len(debate_texts))
        for rank, document in enumerate(found):
            score = document.metadata["_m3_scores"]["score"]
            assert score == pytest.approx(scores[number[document.page_content]], abs=1e-4)
            assert score == pytest.approx(best[rank], abs=1e-4)
        assert len({document.id for document in found}) == 10


def test_scores_come_on_request(mini: M3Encoder, retriever: M3Retriever) -> None:
    (document,) = retriever.invoke("法国首都在哪里？", k=1)
    scores = document.metadata["_m3_scores"]
    assert set(scores["scores"]) == set(scores["ranks"]) == {"dense", "sparse", "multivector"}
    plain = M3Retriever(store=retriever.store, encoder=mini)
    assert "_m3_scores" not in plain.invoke("法国首都在哪里？")[0].metadata


def test_a_call_overrides_the_fields(retriever: M3Retriever) -> None:
    assert len(retriever.invoke("capital")) == 2
    assert len(retriever.invoke("capital", k=4)) == 4
    japan = retriever.invoke("capital", filter={"country": "Japan"}, k=4)
    assert {d.metadata["n"] for d in japan} == {2, 4}
    (one,) = retriever.invoke("capital", k=1, fusion=RRF(), modes=["sparse"], rerank=False)
    assert list(one.metadata["_m3_scores"]["scores"]) == ["sparse"]
    weighted = retriever.invoke("capital", k=1, fusion=WeightedSum(0, 0, 1))[0].metadata["_m3_scores"]
    assert weighted["score"] == pytest.approx(weighted["scores"]["multivector"])
    with pytest.raises(InvalidInput, match=r"a call takes k, candidates, .*, not top_k"):
        retriever.invoke("capital", top_k=3)


async def test_async_finds_the_same(retriever: M3Retriever) -> None:
    queries = ["法国首都在哪里？", "yellow fruit", "tower"]
    expected = [retriever.invoke(query) for query in queries]
    assert await asyncio.gather(*(retriever.ainvoke(query) for query in queries)) == expected
    assert await retriever.abatch(queries) == retriever.batch(queries) == expected


async def test_the_event_loop_stays_free_while_a_query_is_encoded(retriever: M3Retriever) -> None:
    async with counted_ticks() as ticks:
        await retriever.ainvoke("法国首都在哪里？" * 60)
    assert ticks.count >= 5


def test_one_forward_pass_for_each_text_and_each_query(mini: M3Encoder) -> None:
    with counted_passes() as passes:
        retriever = M3Retriever.from_texts(TEXTS, METADATA, encoder=mini)
        assert passes.texts == len(TEXTS)
        retriever.invoke("法国首都在哪里？")
        assert passes.texts == len(TEXTS) + 1
        asyncio.run(retriever.ainvoke("法国首都在哪里？", rerank=False))
        assert passes.texts == len(TEXTS) + 2
        retriever.batch(["a", "b", "c"])
        assert passes.texts == len(TEXTS) + 5


def test_indexing_again_replaces(tmp_path: Path, mini: M3Encoder) -> None:
    for _ in range(2):
        texts = [*TEXTS, TEXTS[0]]  # the same text twice is two documents
        retriever = M3Retriever.from_texts(texts, encoder=mini, path=tmp_path)
        assert retriever.store.count() == 5
        retriever.store.close()


def test_from_store_opens_what_from_documents_made(tmp_path: Path, mini: M3Encoder) -> None:
    documents = [
        Document(text, id=f"id {i}", metadata=m) for i, (text, m) in enumerate(zip(TEXTS, METADATA, strict=True))
    ]
    made = M3Retriever.from_documents(documents, encoder=mini, path=tmp_path, collection="capitals")
    expected = made.invoke("法国首都在哪里？")
    made.store.close()
    with QdrantStore("capitals", path=tmp_path) as store:
        again = M3Retriever.from_store(store)
        assert again.invoke("法国首都在哪里？") == expected
        assert expected[0] == documents[0]


def test_fewer_modes_can_be_kept(mini: M3Encoder) -> None:
    retriever = M3Retriever.from_texts(TEXTS, encoder=mini, store_modes=["dense", "sparse"], include_scores=True)
    assert retriever.store.modes == ("dense", "sparse")
    assert list(retriever.invoke("capital")[0].metadata["_m3_scores"]["scores"]) == ["dense", "sparse"]


def test_a_dense_model_serves_too(m3e_dir: Path) -> None:
    retriever = M3Retriever.from_texts(["the", "me"], encoder=m3e_dir, include_scores=True)
    assert list(retriever.invoke("the", k=1)[0].metadata["_m3_scores"]["scores"]) == ["dense"]


def test_another_encoder_is_refused_at_once(tmp_path: Path, retriever: M3Retriever) -> None:
    other = M3Encoder(save_m3(tmp_path))
    with pytest.raises(CollectionMismatch, match="model is 'm3-mini' there"):
        M3Retriever.from_store(retriever.store, encoder=other)


def test_bad_input_is_named_and_leaves_nothing_locked(tmp_path: Path, mini: M3Encoder) -> None:
    for texts, options, message in [
        ("one text", {}, "not a single str"),
        (TEXTS, {"metadatas": [{}]}, "4 texts come with 1 metadatas and 4 ids"),
        (TEXTS, {"ids": ["a"]}, "4 texts come with 4 metadatas and 1 ids"),
        (TEXTS, {"ids": ["a"] * 4}, "two records have the id 'a'"),
        (TEXTS, {"metadatas": [{"x": object()}] * 4}, "no JSON"),
        ([None], {}, "is None"),
        (TEXTS, {"metadatas": [None] * 4}, "metadata 0 is a NoneType, not a dict"),
        (TEXTS, {"metadatas": [{1: 2, "b": 3}] * 4}, "no JSON"),
        (TEXTS, {"metadatas": [{"_m3_node": 1}] * 4}, "reserved"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            M3Retriever.from_texts(texts, encoder=mini, path=tmp_path, **options)
    with QdrantStore("documents", path=tmp_path), pytest.raises(CollectionLocked):
        M3Retriever.from_texts(TEXTS, encoder=mini, path=tmp_path)


def test_in_a_chain(retriever: M3Retriever) -> None:
    prompt = ChatPromptTemplate.from_template("{context}\n{question}")
    join = RunnableLambda(lambda documents: "\n".join(d.page_content for d in documents))
    model = RunnableLambda(lambda value: value.to_string())
    chain = {"context": retriever | join, "question": RunnablePassthrough()} | prompt | model | StrOutputParser()
    assert chain.invoke("法国首都在哪里？").startswith("Human: " + TEXTS[0])


def test_traces_say_what_was_used(retriever: M3Retriever) -> None:
    parameters = retriever._get_ls_params()
    assert parameters["ls_embedding_model"] == "m3-mini"
    assert parameters["ls_vector_store_provider"] == "QdrantStore"


def test_weights_are_those_of_the_weighted_sum(mini: M3Encoder, retriever: M3Retriever) -> None:
    query = "法国首都在哪里？"
    scores = mini.encode_queries([query]).score(mini.encode_documents(TEXTS), weights=(0.2, 0.0, 1.0))[0]
    found = retriever.invoke(query, k=4, weights=(0.2, 0.0, 1.0))
    assert [d.metadata["_m3_scores"]["score"] for d in found] == pytest.approx(sorted(scores, reverse=True), abs=1e-3)
    own = M3Retriever.from_store(retriever.store, encoder=mini, k=4, weights=(0.2, 0.0, 1.0))
    assert [d.page_content for d in own.invoke(query)] == [d.page_content for d in found]
    assert own.invoke(query, fusion=RRF())  # in place of the weights
    with pytest.raises(InvalidInput, match="either weights"):
        retriever.invoke(query, weights=(1, 1, 1), fusion=RRF())
    with pytest.raises(ValidationError, match="either weights"):
        M3Retriever(store=retriever.store, encoder=mini, weights=(1, 1, 1), fusion=RRF())


def test_a_threshold_leaves_out_what_scores_less(retriever: M3Retriever) -> None:
    best, second = retriever.invoke("法国首都在哪里？")
    between = (best.metadata["_m3_scores"]["score"] + second.metadata["_m3_scores"]["score"]) / 2
    assert len(retriever.invoke("法国首都在哪里？", score_threshold=between)) == 1


async def test_matched_tokens_come_on_request(mini: M3Encoder, retriever: M3Retriever) -> None:
    explaining = M3Retriever.from_store(
        retriever.store, encoder=mini, include_tokens=True, include_scores=True, k=4, filter={"country": "Japan"}
    )
    query = "Tokyo, Japan?"
    for found in (explaining.invoke(query), await explaining.ainvoke(query)):
        by_text = {document.page_content: document.metadata for document in found}
        tokens = by_text[TEXTS[1]]["_m3_tokens"]
        assert {"Tokyo", "Japan"} <= set(tokens)
        assert sum(tokens.values()) == pytest.approx(by_text[TEXTS[1]]["_m3_scores"]["scores"]["sparse"], rel=1e-3)
        assert list(tokens.values()) == sorted(tokens.values(), reverse=True)
        assert by_text[TEXTS[3]]["_m3_tokens"] == {}
    assert "_m3_tokens" not in explaining.invoke(query, modes=["dense"])[0].metadata
    assert "_m3_tokens" not in retriever.invoke(query)[0].metadata


async def test_explanations_come_on_request(mini: M3Encoder, retriever: M3Retriever) -> None:
    explaining = M3Retriever.from_store(
        retriever.store, encoder=mini, include_explanation=True, include_scores=True, weights=(1.0, 0.5, 0.0)
    )
    query = "法国首都在哪里？"
    (found, others), (same, _) = explaining.invoke(query, k=2), await explaining.ainvoke(query, k=2)
    why, scores = found.metadata["_m3_explanation"], found.metadata["_m3_scores"]
    assert why == same.metadata["_m3_explanation"]
    assert why["passage"] == found.page_content
    assert why["score"] == pytest.approx(scores["score"], abs=5e-3)
    assert why["shares"] == pytest.approx(scores["shares"], abs=5e-3)
    assert sum(scores["shares"].values()) == pytest.approx(scores["score"], abs=1e-9)
    assert {match["token"] for match in why["matches"]} >= {"法国", "首都"}
    assert "_m3_explanation" not in retriever.invoke(query)[0].metadata
    json.dumps(why)
    again = M3Retriever.from_documents([found, others], encoder=mini)  # of it nothing is stored
    assert all("_m3_explanation" not in document.metadata for document in again.invoke(query))


def test_embeddings_lend_their_encoder() -> None:
    embeddings = M3Embeddings(model="m3-mini", max_length=99)
    retriever = M3Retriever.from_texts(TEXTS, encoder=embeddings)
    assert retriever.encoder is embeddings.encoder
    with pytest.raises(InvalidInput, match="not DeterministicFakeEmbedding"):
        M3Retriever.from_texts(TEXTS, encoder=DeterministicFakeEmbedding(size=6))
