"""Hard negatives: which passages may become some, and which are chosen."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from m3core import InvalidInput, M3Encoder, UnsupportedMode
from m3core.train.making.exact import EncoderScore, ExactSearch
from m3core.train.making.mining import Choice, Search, mine, passages_of
from m3core.train.records import Example, ScoredPair

RANKED = [(f"passage {i}", 1.0 - i / 10) for i in range(10)]  # 1.0, 0.9, … 0.1


def finds(hits: Sequence[tuple[str, float]]) -> Search:
    """A search that finds the same for every query."""
    return lambda queries, k: [list(hits)[:k] for _ in queries]


def mined(example: Example, hits: Sequence[tuple[str, float]] = RANKED, **options: object) -> tuple[str, ...]:
    [one] = mine([example], finds(hits), choice=Choice(**{"sampling": "top", **options}))
    return one.negatives


def numbers(texts: Sequence[str]) -> list[int]:
    return [int(text.split()[1]) for text in texts]


def test_the_best_that_are_no_positives() -> None:
    assert numbers(mined(Example("q", ("passage 0", "passage 2")), negatives=3)) == [1, 3, 4]


def test_old_negatives_scores_and_nothing_else_are_replaced() -> None:
    old = Example("q", ("passage 0",), ("old",), (1.0, 0.0), "Find: ", "sts")
    [new] = mine([old], finds(RANKED), choice=Choice(negatives=1, sampling="top"))
    assert new == Example("q", ("passage 0",), ("passage 1",), (), "Find: ", "sts")


def test_a_positive_of_the_same_query_in_another_record_is_no_negative() -> None:
    records = [Example("q", ("passage 0",)), Example("other", ("x",)), Example(" q ", ("passage 1",))]
    for seed in range(20):
        for example in mine(records, finds(RANKED), choice=Choice(5, seed=seed)):
            if example.query.strip() == "q":
                assert not {"passage 0", "passage 1"} & set(example.negatives)


def test_neither_the_query_nor_a_text_twice() -> None:
    hits = [("the  query", 0.9), ("a b", 0.8), ("a\nb", 0.7), ("p", 0.6), ("c", 0.5)]
    assert mined(Example("the query", ("p",)), hits) == ("a b", "c")


def test_ranks_count_candidates_only() -> None:
    example = Example("q", ("passage 0", "passage 3"))
    assert numbers(mined(example, range_min=2, range_max=5)) == [4, 5, 6]


def test_the_search_is_asked_once_and_deep_enough() -> None:
    asked = []

    def search(queries: Sequence[str], k: int) -> Iterator[list[tuple[str, float]]]:
        asked.append((list(queries), k))
        yield from (RANKED[:k] for _ in queries)

    records = [Example("a", tuple(f"passage {i}" for i in range(4))), Example("b", ("x",)), Example("a", ("y",))]
    made = list(mine(records, search, choice=Choice(2, range_max=4, sampling="top")))
    assert asked == [(["a", "b"], 4 + 5 + 1)]
    assert [(e.query, numbers(e.negatives)) for e in made] == [("a", [4, 5]), ("a", [4, 5]), ("b", [0, 1])]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"absolute_margin": 0.25}, [4, 5, 6, 7, 8, 9]),  # below 0.9 - 0.25
        ({"absolute_margin": 0.0}, [2, 3, 4, 5, 6, 7, 8, 9]),
        ({"relative_margin": 0.5}, [6, 7, 8, 9]),  # below 0.45
        ({"max_score": 0.65}, [4, 5, 6, 7, 8, 9]),
        ({"min_score": 0.35, "max_score": 0.65}, [4, 5, 6]),
        ({"relative_margin": 0.5, "range_max": 3}, []),
    ],
)
def test_bounds_and_margins(options: dict, expected: list[int]) -> None:
    assert numbers(mined(Example("q", ("passage 1",)), negatives=9, **options)) == expected


def test_of_several_positives_the_worst_sets_the_margin() -> None:
    example = Example("q", ("passage 1", "passage 6"))
    assert numbers(mined(example, negatives=9, absolute_margin=0.05)) == [7, 8, 9]


def test_a_relative_margin_is_below_a_negative_score_too() -> None:
    hits = [("n1", -0.49), ("p", -0.5), ("n2", -0.52), ("n3", -0.53)]
    assert mined(Example("q", ("p",)), hits, relative_margin=0.05) == ("n3",)


def test_a_positive_that_is_not_found_scores_less_than_all_that_is() -> None:
    assert mined(Example("q", ("unknown",)), relative_margin=0.05) == ()
    assert len(mined(Example("q", ("unknown",)), max_score=0.5)) == 5


def test_random_ones_depend_on_seed_and_query_alone() -> None:
    def drawn(query: str, seed: int, *others: str) -> list[int]:
        records = [Example(q, ("x",)) for q in (*others, query)]
        return numbers(list(mine(records, finds(RANKED), choice=Choice(4, seed=seed)))[-1].negatives)

    assert drawn("q", 1) == drawn("q", 1, "a", "b")
    assert len({tuple(drawn("q", seed)) for seed in range(10)}) > 5
    assert len({tuple(drawn(query, 1)) for query in "abcdefghij"}) > 5
    assert drawn("q", 1) == sorted(drawn("q", 1))
    assert {number for seed in range(50) for number in drawn("q", seed)} == set(range(10))


def test_a_teacher_scores_what_is_written_and_decides_about_margins() -> None:
    asked: list[tuple[str, str]] = []

    def teacher(pairs: Sequence[tuple[str, str]]) -> list[float]:
        asked.extend(pairs)
        return [{"passage 0": 5.0, "passage 1": 4.9}.get(text, -3.0) for _, text in pairs]

    example = Example("q", ("passage 0",))
    [plain] = mine([example], finds(RANKED), choice=Choice(2, sampling="top"), score=teacher)
    assert plain.negatives == ("passage 1", "passage 2")
    assert plain.scores == (5.0, 4.9, -3.0)
    assert len(asked) == 3
    [careful] = mine([example], finds(RANKED), choice=Choice(2, absolute_margin=1, sampling="top"), score=teacher)
    assert careful.negatives == ("passage 2", "passage 3")
    assert careful.scores == (5.0, -3.0, -3.0)


@pytest.mark.parametrize("given", [[1.0], [math.nan] * 8, []])
def test_a_teacher_that_does_not_answer_is_named(given: list[float]) -> None:
    with pytest.raises(InvalidInput, match="gives each of 8 pairs a finite number"):
        list(mine([Example("q", ("x",))], finds(RANKED), score=lambda pairs: given))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 0}, "negatives must be at least 1"),
        ({"range_min": 5, "range_max": 5}, "range_min"),
        ({"absolute_margin": -0.1}, "absolute_margin must be a number from 0"),
        ({"relative_margin": math.nan}, "relative_margin"),
        ({"max_score": math.inf}, "max_score must be a finite number"),
        ({"min_score": 1, "max_score": 0}, "above max_score"),
        ({"sampling": "best"}, "sampling is random or top"),
    ],
)
def test_a_choice_that_cannot_be_is_named(options: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Choice(**options)


def test_scored_pairs_have_no_positives() -> None:
    with pytest.raises(InvalidInput, match="scored pairs"):
        passages_of([ScoredPair("a", "b", 1.0)])


def test_nothing_to_mine_asks_nobody() -> None:
    def search(queries: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
        raise AssertionError

    assert list(mine([], search)) == []


def test_passages_are_those_of_the_records_and_more_once_each() -> None:
    records = [Example("q", ("a", "b"), ("c",)), Example("r", ("a ",), ("d",))]
    assert passages_of(records, ["d\n", "e"]) == ["a", "b", "c", "d", "e"]


TEXTS = [f"{a} {b} {c}" for a in ("the", "中国", "me") for b in ("one", "到", "up") for c in ("a", "b", "c!", "是")]
QUERIES = ["the one", "中国到是", "up"]


@pytest.mark.parametrize("modes", [["dense"], ["sparse"], ["multivector"], ["dense", "sparse"], None])
def test_an_exact_search_ranks_as_the_scores_of_all_pairs_do(
    tiny_m3: M3Encoder, modes: list | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m3core.train.making.exact._WINDOW", 7)
    monkeypatch.setattr("m3core.train.making.exact._QUERIES", 2)
    found = list(ExactSearch(tiny_m3, TEXTS, modes=modes)(QUERIES, 5))
    queries, documents = tiny_m3.encode_queries(QUERIES), tiny_m3.encode_documents(TEXTS)
    used = modes or list(tiny_m3.modes)
    given = dict(zip(("dense", "sparse", "multivector"), tiny_m3.score_weights, strict=True))
    weights = tuple((given[m] if len(used) > 1 else 1.0) if m in used else 0.0 for m in given)
    scores = queries.score(documents, weights=weights)
    for row, hits in zip(scores, found, strict=True):
        assert [score for _, score in hits] == pytest.approx(np.sort(row)[::-1][:5].tolist(), abs=1e-4)
        for text, score in hits:
            assert row[TEXTS.index(text)] == pytest.approx(score, abs=1e-4)


def test_a_search_deeper_than_there_are_passages(tiny_m3: M3Encoder) -> None:
    [hits] = ExactSearch(tiny_m3, TEXTS[:3], modes=["dense"])(["the"], 50)
    assert {text for text, _ in hits} == set(TEXTS[:3])


def test_pairs_score_as_each_by_itself(tiny_m3: M3Encoder) -> None:
    pairs = [("the one", TEXTS[0]), ("up", TEXTS[5]), ("the one", TEXTS[5]), ("the one", TEXTS[0])]
    together = EncoderScore(tiny_m3)(pairs)
    alone = [float(tiny_m3.encode_queries([q]).score(tiny_m3.encode_documents([p]))[0, 0]) for q, p in pairs]
    assert together == pytest.approx(alone, abs=1e-4)


def test_a_mode_that_the_model_lacks_is_named_before_anything_is_encoded(m3e_dir) -> None:
    encoder = M3Encoder(m3e_dir, dtype="float32", device="cpu")
    with pytest.raises(UnsupportedMode, match="has dense; it cannot search by sparse"):
        ExactSearch(encoder, TEXTS, modes=["dense", "sparse"])
    with pytest.raises(InvalidInput, match="no passages"):
        ExactSearch(encoder, [])
