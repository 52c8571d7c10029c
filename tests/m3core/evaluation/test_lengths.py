import pytest
from judged import count_words, judged_set

from m3core import InvalidInput, M3Encoder
from m3core.evaluation import length_groups

CORPUS = {"a": "w " * 8, "b": "w " * 9, "c": "w " * 98, "d": "w " * 99, "unjudged": "w " * 5000}
QRELS = {"q1": {"a": 1}, "q2": {"b": 2, "unjudged": 0}, "q3": {"d": 1}, "q4": {"a": 1, "c": 1}, "q5": {"a": 0}}
JUDGED = judged_set(CORPUS, dict.fromkeys(QRELS, "?"), QRELS)


def test_queries_are_grouped_by_the_passage_that_answers_them() -> None:
    groups = length_groups(JUDGED, count_words, bounds=(10, 100))
    found = {label: [q for q, is_in in zip(QRELS, where, strict=True) if is_in] for label, where in groups.items()}
    assert found == {"≤10": ["q1"], "11–100": ["q2", "q4"], ">100": ["q3"]}  # q4's mean is 55, and nothing answers q5


def test_groups_without_queries_are_left_out() -> None:
    assert list(length_groups(JUDGED, count_words)) == ["≤128"]
    assert list(length_groups(JUDGED, count_words, bounds=(5,))) == [">5"]


@pytest.mark.parametrize("bounds", [(), (0, 5), (5, 5), (8, 2)])
def test_bounds_must_ascend(bounds: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="bounds of lengths ascend from 1"):
        length_groups(JUDGED, count_words, bounds=bounds)


def test_an_encoder_counts_tokens_as_its_maximum_length_does_and_beyond_it(tiny_m3: M3Encoder) -> None:
    text = "me " * (tiny_m3.max_length - 2)
    assert tiny_m3.count_tokens(["", text, text * 3]) == [2, tiny_m3.max_length, 3 * (tiny_m3.max_length - 2) + 2]
    with pytest.raises(InvalidInput, match="text 1 is None"):
        tiny_m3.count_tokens(["a", None])
