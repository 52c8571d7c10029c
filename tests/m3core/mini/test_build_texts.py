import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from m3core.errors import InvalidInput
from m3core.evaluation import JudgedSet, load_beir
from m3core.mini.build.texts import Pair, divided, judged_texts, read_pairs, sentence_pairs, without

SETS = ["xquad-zh-zh", "xquad-zh-en", "xquad-en-zh", "cmrc-zh-zh", "docs-zh-zh", "docs-en-en", "docs-zh-en"]


def judged(folder: Path) -> JudgedSet:
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "The  passage\\nthat is judged."}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "A query"}\n')
    (folder / "qrels.tsv").write_text("q\td\t1\n")
    return load_beir(folder)


def test_pairs_are_read_plain_or_gzipped(tmp_path: Path) -> None:
    lines = json.dumps({"lang": "zh2en", "query": "标题", "pos": ["one", "two"]}) + "\n"
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    expected = [Pair("zh2en", "标题", "one"), Pair("zh2en", "标题", "two")]
    assert list(read_pairs(tmp_path / "a.jsonl")) == list(read_pairs(tmp_path / "a.jsonl.gz")) == expected


@pytest.mark.parametrize(
    "line", ['{"lang": "zh", "query": "a"}', "[]", "{", '{"lang": "zh", "query": 1, "pos": ["b"]}']
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"lang": "zh", "query": "a", "pos": ["b"]}\n' + line)
    with pytest.raises(InvalidInput, match=r"a\.jsonl:2"):
        list(read_pairs(path))


def test_whatever_is_judged_is_left_out_however_its_white_space_is(tmp_path: Path) -> None:
    pairs = [
        Pair("en", "Heading", "The passage that\tis judged. "),
        Pair("en", " A \n query", "Another passage"),
        Pair("en", "A query more", "The passage that is judged. And more."),
    ]
    assert list(without(pairs, judged_texts([judged(tmp_path / "set")]))) == pairs[2:]


def test_sentences_ask_for_the_section_in_the_other_language() -> None:
    chinese = "第一句话说的是怎样打开一个文件。短句。第二句话说的是怎样保存一个文件！"
    english = (
        "The first sentence tells how to open a file. This one here is in both of the sections. "
        "Too short. 文件 The third one has a name in it."
    )
    pairs = [
        Pair("zh", "标题", chinese),
        Pair("zh2en", "标题", english),
        Pair("en2zh", "Heading", chinese),
        Pair("zh2en", "又一个", "This one here is in both of the sections."),
        Pair("en2zh", "Another one", "没有句子"),
        Pair("zh2en", "另一个", "Alone, as its section has no other language here."),
    ]
    assert set(sentence_pairs(pairs)) == {
        Pair("zh2en", "第一句话说的是怎样打开一个文件。", english),
        Pair("zh2en", "第二句话说的是怎样保存一个文件！", english),
        Pair("en2zh", "The first sentence tells how to open a file.", chinese),
    }
    assert len(sentence_pairs(pairs, each=1)) == 2
    assert sentence_pairs(pairs, each=1, seed=1) == sentence_pairs(pairs, each=1, seed=1)


def test_a_section_is_either_trained_or_measured_with_in_both_languages() -> None:
    pairs = []
    for i in range(400):
        pairs += [Pair("zh2en", f"标题{i}", f"section {i}"), Pair("en2zh", f"heading {i}", f"段落{i}")]
        pairs += [Pair("zh", f"标题{i}", f"段落{i}"), Pair("en", f"heading {i}", f"section {i}")]
    pairs += [Pair("zh", "重复", f"段落{i}") for i in range(0, 400, 3)]
    learned, held_out = divided(pairs, 0.2)
    assert sorted(learned + held_out, key=pairs.index) == pairs
    numbers = [{int("".join(filter(str.isdigit, pair.passage))) for pair in part} for part in (learned, held_out)]
    assert not numbers[0] & numbers[1]
    assert 0.1 < len(numbers[1]) / 400 < 0.3
    assert divided(pairs, 0.2) == (learned, held_out)


def test_nothing_judged_is_in_the_training_text(eval_set: Callable[[str], Path], debate: Path) -> None:
    path = os.environ.get("M3_TRAIN_PAIRS")
    if not path:
        pytest.skip("M3_TRAIN_PAIRS names no training text")
    sets = [load_beir(folder) for folder in (*map(eval_set, SETS), debate)]
    every = list(read_pairs(Path(path)))
    kept = list(without(every, judged_texts(sets)))
    assert 0.99 * len(every) < len(kept) < len(every)  # headings that are common, and little else
    made = without(sentence_pairs(every), judged_texts(sets))
    seen = {"".join(text.split()) for pair in (*kept, *made) for text in (pair.query, pair.passage)}
    for judged_set in sets:
        for text in (*judged_set.corpus.texts, *judged_set.queries.texts):
            assert "".join(text.split()) not in seen
