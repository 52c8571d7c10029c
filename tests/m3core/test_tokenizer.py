import json
import lzma
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import unigram
from tokenizers import Tokenizer

from m3core import InvalidModel, M3Encoder
from m3core.hub import locate
from m3core.tokenizer import M3Tokenizer

DATA = Path(__file__).parent / "data"
PARTS = [*"abe的一中国首都theof 　\n１２ＡＰＩ．é①Ⅷﬁ…㎞\x01\x1b\x7f\x80\x9f\u200b\u00ad\ufeff", "e\u0301"]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=14).map("".join)


@pytest.fixture(scope="module")
def xlm_roberta() -> M3Tokenizer:
    """bge-m3's tokenizer: XLM-R's whole vocabulary in the pipeline that the bundled model's tokenizer has."""
    pieces = lzma.decompress((DATA / "xlm_roberta_pieces.txt.xz").read_bytes()).decode().split("\n")
    scores = np.frombuffer(lzma.decompress((DATA / "xlm_roberta_scores.f32.xz").read_bytes()), "<f4").tolist()
    description = json.loads((locate("m3-mini").directory / "tokenizer.json").read_text("utf-8"))
    description["model"]["vocab"] = list(zip(pieces, scores, strict=True))
    for token in description["added_tokens"]:
        token["id"] = pieces.index(token["content"])
    return M3Tokenizer(Tokenizer.from_str(json.dumps(description)))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world!", [0, 35378, 8999, 38, 2]),
        ("你好，世界", [0, 6, 124084, 4, 3221, 2]),
        ("नमस्ते दुनिया", [0, 68700, 97883, 29405, 2]),
        ("مرحبا بالعالم", [0, 665, 193478, 258, 1705, 77796, 2]),
        ("Bonjour le monde", [0, 84602, 95, 11146, 2]),
    ],
)
def test_published_xlm_roberta_ids(xlm_roberta: M3Tokenizer, text: str, ids: list[int]) -> None:
    """The vectors that fairseq publishes with XLM-R."""
    assert xlm_roberta.tokenize([text], 512).token_ids[0].tolist() == ids


def test_the_bundled_vocabulary_cuts_chinese_and_english_as_the_whole_one(
    xlm_roberta: M3Tokenizer, mini: M3Encoder, debate_texts: list[str]
) -> None:
    texts = [*debate_texts, "What is BGE M3?", "Retrieval of dense and sparse vectors, with 3 heads."]
    for text in texts:
        whole = xlm_roberta.tokens(text, 8192)[0]
        assert len(mini.tokenize(text)) <= 1.02 * len(whole) + 1


def test_cutting_keeps_the_special_tokens() -> None:
    tokenizer = M3Tokenizer(unigram())
    whole = tokenizer.tokenize(["abcdef"], 100).token_ids[0].tolist()
    cut = tokenizer.tokenize(["abcdef"], 5)
    assert cut.token_ids[0].tolist() == [*whole[:4], 2]
    assert (cut.counts.truncated, cut.counts.longest) == (1, len(whole))


def test_a_tokenizer_that_came_with_truncation_does_not_cut_or_pad() -> None:
    raw = unigram()
    raw.enable_truncation(4)
    raw.enable_padding(length=30)
    assert [len(t) for t in M3Tokenizer(raw).tokenize(["abcdef", "a"], 100).token_ids] == [9, 4]


def test_unknown_characters_are_counted() -> None:
    counts = M3Tokenizer(unigram()).tokenize(["a ж b", "c"], 100).counts
    assert (counts.tokens, counts.unknown) == (8, 1)


def test_spans_are_those_of_the_original_text(mini: M3Encoder) -> None:
    text = "  ＡＩ教师\n① ﬁne"
    tokens = mini.tokenize(text)
    assert "".join(text[t.start : t.end] for t in tokens) == "ＡＩ教师①ﬁne"
    assert all(a.start <= b.start for a, b in pairwise(tokens))


def test_every_token_has_a_place_of_its_own(mini: M3Encoder, debate_texts: list[str]) -> None:
    for text in debate_texts[:50]:
        spans = [(t.start, t.end) for t in mini.tokenize(text) if t.start < t.end]
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        assert len(spans) == len(set(spans))


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
@example(text="\x01法国")
@example(text="\x1b[2J:smile: 法国")
@example(text="x \x7f\x7f法国 e\u0301")
def test_a_tokens_characters_are_what_it_stands_for(mini: M3Encoder, text: str) -> None:
    """By Unicode's own normalization of the characters."""

    def visible(part: str) -> str:
        normal = unicodedata.normalize("NFKD", part)
        return "".join(c for c in normal if unicodedata.category(c) not in ("Cc", "Cf", "Zs"))

    tokens = mini.tokenize(text, quiet=True)
    assert all(a.start <= b.start for a, b in pairwise(tokens))
    for token in tokens:
        piece = token.token.removeprefix("▁")
        assert piece == "<unk>" or visible(piece) in visible(text[token.start : token.end])
    shown = {at for token in tokens for at in range(token.start, token.end)}
    assert all(at in shown for at, c in enumerate(text) if c.isalnum())


def test_threads_share_a_tokenizer_without_mixing_lengths() -> None:
    tokenizer = M3Tokenizer(unigram())
    texts = ["the one of me and you " * n for n in range(1, 9)]

    def lengths(limit: int) -> list[int]:
        return [len(t) for t in tokenizer.tokenize(texts, limit).token_ids]

    limits = [8, 16, 32, 64] * 100
    expected = {limit: lengths(limit) for limit in set(limits)}
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lengths, limits)) == [expected[limit] for limit in limits]


def test_a_tokenizer_without_special_tokens_is_refused() -> None:
    from tokenizers import models

    with pytest.raises(InvalidModel, match="one special token before a text and one behind"):
        M3Tokenizer(Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")))
