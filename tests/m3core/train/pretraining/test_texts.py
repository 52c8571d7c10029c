"""Where texts to pre-train with come from, and which of them make a batch."""

import gzip
import json
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pytest

from m3core import InvalidInput
from m3core.packing import cut
from m3core.tokenizer import M3Tokenizer
from m3core.train.pretraining.masking import Masker
from m3core.train.pretraining.texts import TextBatches, stream

TEXTS = ["the one", "中国人", "me of it", "", "one, two"]


def texts_of(source) -> list[str]:
    return [row["text"] for row in stream(source)]


def test_texts_come_from_files_folders_lists_and_data_sets(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": text, "id": 1}) + "\n" for text in TEXTS)
    (tmp_path / "a.jsonl").write_text(lines, "utf-8")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "b" / "d.txt").write_text("three\n四\n", "utf-8")
    (tmp_path / "b" / "readme.md").write_text("not this")
    assert texts_of(tmp_path / "a.jsonl") == TEXTS
    assert texts_of(str(tmp_path)) == [*TEXTS, *TEXTS, "three", "四"]
    assert texts_of([tmp_path / "b" / "d.txt", tmp_path / "a.jsonl"]) == ["three", "四", *TEXTS]
    assert texts_of(TEXTS) == TEXTS
    assert texts_of([{"text": text, "more": 0} for text in TEXTS]) == TEXTS
    rows = datasets.Dataset.from_dict({"text": TEXTS, "more": [0] * 5})
    assert texts_of(rows) == TEXTS
    assert texts_of(rows.to_iterable_dataset()) == TEXTS


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    for content, message in (
        (b'{"text": "a"}\n{"text": 3}\n', r"a\.jsonl:2: text is int, not a str"),
        (b'{"title": "a"}\n', r"a\.jsonl:1: text is None"),
        (b"{\n", r"a\.jsonl:1: not JSON"),
        (b'{"text": "\xff"}\n', r"a\.jsonl:1: not JSON"),
    ):
        (tmp_path / "a.jsonl").write_bytes(content)
        with pytest.raises(InvalidInput, match=message):
            texts_of(tmp_path / "a.jsonl")
    (tmp_path / "a.txt").write_bytes(b"one\n\xff\n")
    with pytest.raises(InvalidInput, match=r"a\.txt:2: not UTF-8"):
        texts_of(tmp_path / "a.txt")
    for source, message in (
        (tmp_path / "b.jsonl", "there is no file"),
        (tmp_path / "a.csv", "there is no file"),
        (["a", 3], "text 1 is int"),
        (3, "texts come from"),
        (datasets.Dataset.from_dict({"body": ["a"]}), "no column text"),
    ):
        with pytest.raises(InvalidInput, match=message):
            stream(source)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="holds no texts"):
        stream(tmp_path / "empty")


def batches(folder: Path, texts: list[str], **arguments) -> TextBatches:
    tokenizer = M3Tokenizer.from_directory(folder)
    masker = Masker(tokenizer.special_ids, tokenizer.mask_id, np.arange(5, 30))
    given = {"max_length": 40, "tokens": 90, "seed": 3} | arguments
    return TextBatches(stream(texts), tokenizer, masker, **given)


def packed(batch) -> list[tuple[int, ...]]:
    pack = batch["masked"].pack
    return [tuple(text) for text in cut(pack.token_ids, pack.lengths)]


WORDS = ["one", "two", "three", "中国", "是不是", "me me"]
MANY = [f"{WORDS[i % 6]} {i} {'is it ' * (i % 4)}" for i in range(50)]


def test_a_pass_has_every_text_once_within_the_budget(m3_dir: Path) -> None:
    once = list(batches(m3_dir, MANY, once=True))
    expected = M3Tokenizer.from_directory(m3_dir).tokenize(MANY, 128).token_ids
    assert [text for batch in once for text in packed(batch)] == [tuple(ids) for ids in expected]
    sizes = [len(batch["masked"].pack.token_ids) for batch in once]
    assert max(sizes) <= 90
    assert min(sizes[:-1]) > 50
    assert batches(m3_dir, MANY).count() == pytest.approx(len(once), abs=1)  # of its own order


def test_long_texts_are_cut_into_several_and_empty_ones_passed_over(m3_dir: Path) -> None:
    long = "one two 中国人说 " * 10
    (whole,) = M3Tokenizer.from_directory(m3_dir).tokenize([long], 128).token_ids
    texts = [text for batch in batches(m3_dir, ["", long, "  "], once=True, max_length=20) for text in packed(batch)]
    assert len(texts) == -(-(len(whole) - 2) // 18)
    assert all(len(text) <= 20 and (text[0], text[-1]) == (whole[0], whole[-1]) for text in texts)
    assert [i for text in texts for i in text[1:-1]] == whole[1:-1].tolist()


def test_every_length_to_cut_at_goes(m3_dir: Path) -> None:
    for length in range(3, 12):  # also between a `▁` and what it begins
        assert list(batches(m3_dir, ["b 中 c 国 ß 人 d"], once=True, max_length=length))


def test_the_order_and_the_masks_are_the_seed_s_and_new_in_every_pass(m3_dir: Path) -> None:
    size = batches(m3_dir, MANY).count()
    run, same = (list(islice(batches(m3_dir, MANY), 2 * size + 3)) for _ in range(2))
    for one, other in zip(run, same, strict=True):
        assert packed(one) == packed(other)
        assert (one["masked"].seen == other["masked"].seen).all()
    passes = [{text for batch in part for text in packed(batch)} for part in (run[: size - 1], run[size + 2 :])]
    assert len(passes[0] & passes[1]) > 30
    assert packed(run[0]) != packed(run[size])
    (other_seed,) = islice(batches(m3_dir, MANY, seed=4), 1)
    assert packed(other_seed) != packed(run[0])


def test_skipped_batches_are_the_first(m3_dir: Path) -> None:
    run = list(islice(batches(m3_dir, MANY), 30))
    rest = list(islice(batches(m3_dir, MANY, skipped=17), 13))
    for one, other in zip(run[17:], rest, strict=True):
        assert packed(one) == packed(other)
        assert (one["masked"].chosen == other["masked"].chosen).all()


def test_processes_share_the_texts(m3_dir: Path) -> None:
    shares = [list(batches(m3_dir, MANY, once=True, process=i, processes=2)) for i in range(2)]
    texts = [[text for batch in share for text in packed(batch)] for share in shares]
    expected = M3Tokenizer.from_directory(m3_dir).tokenize(MANY, 128).token_ids
    assert sorted(texts[0] + texts[1]) == sorted(tuple(ids) for ids in expected)
    assert len(texts[0]) == 25


def test_no_texts_at_all_is_an_error(m3_dir: Path) -> None:
    with pytest.raises(InvalidInput, match="no texts to pre-train with"):
        next(iter(batches(m3_dir, ["", " "])))
