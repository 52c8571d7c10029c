"""Masks over whole words, in two vocabularies and several scripts."""

from pathlib import Path

import numpy as np
import pytest

from m3core import MissingDependency
from m3core.tokenizer import M3Tokenizer
from m3core.train.pretraining.masking import corrupt, draw_masks, word_ids

MINI = Path(__file__).parents[4] / "m3core" / "mini"


def words(tokenizer: M3Tokenizer, text: str) -> list[str]:
    """The pieces of each word, joined by `|`."""
    tokens, _ = tokenizer.tokens(text, 512)
    _, (starts,) = tokenizer.located([text], 512)
    ids = word_ids(text, starts)
    assert len(ids) == len(tokens)
    return ["|".join(t.token for t, i in zip(tokens, ids, strict=True) if i == word) for word in range(ids.max() + 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Unforgettable mixtures", ["▁Un|for|get|table", "▁mix|tures"]),
        ("state-of-the-art, don't", ["▁state", "-", "of", "-", "the", "-", "art", ",", "▁don", "'", "t"]),
        ("  我们在北京大学", ["▁我们", "在北京|大学"]),  # jieba: 我们 / 在 / 北京大学; the last two share a token
        ("人工智能会取代教师吗？", ["▁|人工智能", "会", "取代", "教师", "吗", "?"]),
        ("用adaptive learning系统", ["▁|用", "adapt|ive", "▁learning", "系统"]),
        ("एक हिन्दी", ["▁|<unk>", "▁|<unk>"]),  # a vowel's mark is no end of a word
        ("かな漢字", ["▁|かな", "漢|字"]),
    ],
)
def test_words_of_an_xlm_r_vocabulary(text: str, expected: list[str]) -> None:
    assert words(M3Tokenizer.from_directory(MINI), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the moon, one", ["t|##h|##e", "m|##o|##o|##n", ",", "o|##n|##e"]),
        ("中国人说的 me", ["中|国", "人", "说", "的", "m|##e"]),  # jieba: 中国 / 人 / 说 / 的
    ],
)
def test_words_of_a_bert_vocabulary(m3e_dir: Path, text: str, expected: list[str]) -> None:
    assert words(M3Tokenizer.from_directory(m3e_dir), text) == expected


def test_scripts_without_spaces_are_masked_by_tokens() -> None:
    assert word_ids("ภาษาไทย", np.array([0, 4])).tolist() == [0, 1]
    assert word_ids("한국어 어", np.array([0, 1, 3])).tolist() == [0, 0, 1]


def test_no_text_has_no_words() -> None:
    assert word_ids("", np.array([], dtype=np.int64)).tolist() == []


def test_chinese_without_jieba_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jieba", None)
    assert word_ids("one two", np.array([0, 3])).tolist() == [0, 1]
    with pytest.raises(MissingDependency, match=r"m3-retrieval\[train\]"):
        word_ids("中国", np.array([0]))


WORDS = np.array([-1, 0, 0, 1, 2, 2, 2, 3, 4, -1, 5, 6, 6, 7, 8, 9, -1])


@pytest.mark.parametrize("probability", [0.15, 0.3, 0.5])
def test_masks_hide_whole_words_at_their_rate(probability: float) -> None:
    masks = draw_masks(WORDS, 4000, probability, np.random.default_rng(0))
    assert masks.shape == (4000, len(WORDS))
    assert not masks[:, WORDS < 0].any()
    for word in range(10):
        own = masks[:, word == WORDS]
        assert (own == own[:, :1]).all()
    missing = (1 - probability) ** 10 / 10  # where no word was drawn, one is
    assert masks[:, WORDS >= 0].mean(0) == pytest.approx(np.full(14, probability + missing), abs=0.03)
    assert masks.any(1).all()
    together = (masks[:, 1] & masks[:, 3]).mean()  # words are drawn each by itself
    assert together == pytest.approx(probability**2, abs=0.03)


def test_masks_are_the_seed_s() -> None:
    one, same, other = (draw_masks(WORDS, 50, 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_a_text_of_special_tokens_has_nothing_masked() -> None:
    assert not draw_masks(np.array([-1, -1]), 3, 0.5, np.random.default_rng(0)).any()


def test_the_encoder_sees_masks_other_words_and_some_as_they_are() -> None:
    ids = np.arange(10, 20_010)
    masked = np.arange(20_000) % 2 == 0
    seen = corrupt(ids, masked, 4, np.array([5, 6, 7]), np.random.default_rng(0))
    assert (seen[~masked] == ids[~masked]).all()
    assert (seen[masked] == 4).mean() == pytest.approx(0.8, abs=0.01)
    assert np.isin(seen[masked], [5, 6, 7]).mean() == pytest.approx(0.1, abs=0.01)
    assert (seen == ids)[masked].mean() == pytest.approx(0.1, abs=0.01)
    assert ids[0] == 10
