import pytest
from judged import count_words, judged_set

from m3core import InvalidInput, M3Encoder
from m3core.evaluation import JudgedSet, needle_set


def passage(name: str, words: int = 10) -> str:
    return " ".join(f"{name}.{i}" for i in range(words))


def made(relevant: int, others: int, **settings: int) -> JudgedSet:
    """One query for each relevant passage."""
    corpus = {f"d{i}": passage(f"d{i}", **settings) for i in range(relevant + others)}
    queries = {f"q{i}": f"where is d{i}?" for i in range(relevant)}
    return judged_set(corpus, queries, {q: {q.replace("q", "d"): 1 + i % 2} for i, q in enumerate(queries)})


def test_a_relevant_passage_becomes_a_long_document_that_nothing_else_in_it_answers() -> None:
    judged = made(12, 40)
    long = needle_set(judged, count_words, tokens=102)
    assert long.name == "tiny-needle-102"
    assert long.queries.ids == judged.queries.ids
    assert long.qrels == judged.qrels
    assert long.corpus.ids == [f"d{i}" for i in range(12)]
    answers = set(long.corpus.ids)
    for identifier, text in zip(long.corpus.ids, long.corpus.texts, strict=True):
        inside = [part.split(".")[0] for part in text.split("\n\n")]
        assert count_words([text]) == [102]
        assert [name for name in inside if name in answers] == [identifier]
        assert len(set(inside)) == len(inside) == 10


def test_it_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    judged = made(12, 40)
    one, again, other = (needle_set(judged, count_words, tokens=100, seed=seed).corpus.texts for seed in (1, 1, 2))
    assert one == again
    assert not set(one) & set(other)


def test_needles_lie_in_all_parts_of_a_document_and_queries_say_in_which() -> None:
    long = needle_set(made(60, 40), count_words, tokens=200)
    depths = dict(zip(long.corpus.ids, (m["depth"] for m in long.corpus.metadata), strict=True))
    assert min(depths.values()) < 0.1
    assert max(depths.values()) > 0.9
    for query, metadata in zip(long.queries.ids, long.queries.metadata, strict=True):
        depth = depths[query.replace("q", "d")]
        assert metadata["depth"] == ("beginning" if depth < 1 / 3 else "middle" if depth < 2 / 3 else "end")
    text = long.corpus.texts[0].split()
    assert depths["d0"] == pytest.approx((text.index("d0.0") + 5) / len(text), abs=1e-3)


def test_passages_that_answer_are_given_up_with_their_queries_where_there_are_no_others() -> None:
    judged = made(40, 0)
    long = needle_set(judged, count_words, tokens=72)
    assert len(long.queries.ids) == 25  # fifteen passages of ten tokens fill two documents
    answers = {p for row in long.qrels.values() for p in row}
    for text in long.corpus.texts:
        assert len({part.split(".")[0] for part in text.split("\n\n")} & answers) == 1


def test_a_query_of_which_one_answer_was_given_up_goes_with_all_of_them() -> None:
    corpus = {f"d{i}": passage(f"d{i}") for i in range(40)}
    qrels = {f"q{i}": {f"d{i}": 1, f"d{(i + 1) % 40}": 1} for i in range(40)}
    long = needle_set(judged_set(corpus, dict.fromkeys(qrels, "?"), qrels), count_words, tokens=42)
    assert 20 <= len(long.queries.ids) < 40
    for query, row in long.qrels.items():
        assert row == qrels[query]
    answers = {p for row in long.qrels.values() for p in row}
    assert set(long.corpus.ids) == answers
    for text in long.corpus.texts:
        assert len({part.split(".")[0] for part in text.split("\n\n")} & answers) == 1
    assert all("depth" not in metadata for metadata in long.queries.metadata)


def test_a_passage_that_is_longer_is_a_document_by_itself() -> None:
    judged = made(3, 40, words=30)
    assert needle_set(judged, count_words, tokens=20).corpus.texts == judged.corpus.texts[:3]


def test_what_was_judged_irrelevant_may_stand_around_a_needle() -> None:
    judged = made(2, 10)
    judged.qrels["q0"]["d5"] = 0
    texts = [needle_set(judged, count_words, tokens=50, seed=seed).corpus.texts[1] for seed in range(9)]
    assert any("d5.0" in text for text in texts)


def test_too_few_passages_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"tiny has 400 tokens in 40 passages, too few to make documents of 150"):
        needle_set(made(40, 0), count_words, tokens=150)
    with pytest.raises(InvalidInput, match="no query that a passage answers"):
        needle_set(judged_set({"d": "x"}, {"q": "?"}, {"q": {"d": 0}}), count_words, tokens=5)
    with pytest.raises(InvalidInput, match="at least 1 token, not 0"):
        needle_set(made(3, 9), count_words, tokens=0)


def test_with_a_models_own_tokens(tiny_m3: M3Encoder) -> None:
    corpus = {str(i): f"{chr(97 + i % 26)} the of ing {i} 中国" for i in range(60)}
    judged = judged_set(corpus, {"q": "?"}, {"q": {"0": 1}})
    (count,) = tiny_m3.count_tokens(needle_set(judged, tiny_m3.count_tokens, tokens=200).corpus.texts)
    assert 190 <= count <= 200
