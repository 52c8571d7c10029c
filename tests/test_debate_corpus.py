"""The debate corpus is what its README says."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from m3core.evaluation import JudgedSet, load_beir

STOP = set(
    "的了是在和与对会不有也都就而及或被把为这那什么吗呢吧么怎样如何哪些能可以要应该一个上下中大小多少人到从让更最"
)


@pytest.fixture(scope="module")
def judged(debate: Path) -> JudgedSet:
    return load_beir(debate)


def han(text: str) -> set[str]:
    return {c for c in text if "\u4e00" <= c <= "\u9fff"}


def pairs(text: str) -> set[str]:
    return {a + b for a, b in pairwise(text) if han(a) and han(b)}


def test_sixteen_motions_have_both_sides(judged: JudgedSet) -> None:
    kinds = Counter((m["motion_id"], m["side"], m["kind"]) for m in judged.corpus.metadata)
    assert len(judged.corpus.ids) == 288
    assert len({motion for motion, _, _ in kinds}) == 16
    assert set(kinds.values()) == {4, 5}
    assert all(60 <= len(text) <= 300 for text in judged.corpus.texts)
    assert len(set(judged.corpus.texts)) == 288


def test_every_query_has_a_kind_and_a_full_answer(judged: JudgedSet) -> None:
    kinds = Counter(m["kind"] for m in judged.queries.metadata)
    assert kinds == {"paraphrase": 64, "exact_term": 32, "number_or_name": 32, "english": 48}
    assert all(max(judged.qrels[query].values()) == 2 for query in judged.queries.ids)
    assert sum(len(grades) > 1 for grades in judged.qrels.values()) >= 90


def test_paraphrases_share_few_characters_with_their_answers(judged: JudgedSet) -> None:
    texts = dict(zip(judged.corpus.ids, judged.corpus.texts, strict=True))
    for query, text, about in zip(judged.queries.ids, judged.queries.texts, judged.queries.metadata, strict=True):
        for passage, grade in judged.qrels[query].items():
            if about["kind"] == "paraphrase" and grade == 2:
                content = han(text) - STOP
                assert len(content & han(texts[passage])) <= 0.4 * len(content)
                assert len(pairs(text) & pairs(texts[passage])) <= 2


def test_english_queries_have_no_chinese(judged: JudgedSet) -> None:
    for text, about in zip(judged.queries.texts, judged.queries.metadata, strict=True):
        assert bool(han(text)) == (about["kind"] != "english")
