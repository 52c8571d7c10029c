from pathlib import Path

import pytest

from m3core import InvalidInput
from m3core.evaluation import load_beir

CORPUS = '{"_id": "d1", "title": "题", "text": "文"}\n{"_id": "d2", "text": "另一", "metadata": {"side": "pro"}}\n'
QUERIES = '{"_id": "q1", "text": "问"}\n{"_id": "q2", "text": "没有答案"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td2\t2\nq1\td1\t0\n"


def write(folder: Path, corpus: str = CORPUS, queries: str = QUERIES, qrels: str = QRELS) -> Path:
    (folder / "qrels").mkdir(exist_ok=True)
    for name, content in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels/test.tsv", qrels)):
        (folder / name).write_text(content, "utf-8")
    return folder


def test_titles_stand_before_texts_and_queries_without_judgements_are_left_out(tmp_path: Path) -> None:
    judged = load_beir(write(tmp_path))
    assert judged.corpus.texts == ["题 文", "另一"]
    assert judged.corpus.metadata == [{}, {"side": "pro"}]
    assert judged.queries.ids == ["q1"]
    assert judged.qrels == {"q1": {"d2": 2, "d1": 0}}


def test_judgements_may_lie_beside_the_corpus(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "qrels" / "test.tsv").rename(tmp_path / "qrels.tsv")
    assert load_beir(tmp_path).qrels["q1"]["d2"] == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"corpus": '{"_id": "d1", "text": "a"}\n{"_id": '}, r"corpus\.jsonl:2: not JSON"),
        ({"corpus": "[1]\n"}, r"corpus\.jsonl:1: expected a JSON object, not list"),
        ({"corpus": '{"id": 3}\n'}, r"corpus\.jsonl:1: expected an _id and a text, in \['id'\]"),
        ({"corpus": CORPUS + CORPUS}, r"corpus\.jsonl: the _id 'd1' stands twice"),
        ({"corpus": "\n"}, "is empty"),
        ({"corpus": '{"_id": "d1", "text": "a", "metadata": "b"}\n'}, r"corpus\.jsonl:1: the title must be"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, "has no judgements"),
        ({"qrels": "q1\td1\n"}, r"test\.tsv:1: expected query, passage and a whole grade"),
        ({"qrels": "q1\td1\tgood\n"}, r"test\.tsv:1: expected query, passage and a whole grade"),
        ({"qrels": "q1\td9\t1\n"}, "judgements name an unknown passage 'd9'"),
        ({"qrels": "q9\td1\t1\n"}, "judgements name an unknown query 'q9'"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_beir(write(tmp_path, **files))


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "corpus.jsonl").write_bytes(b'{"_id": "d1", "text": "\xff"}\n')
    with pytest.raises(InvalidInput, match=r"corpus\.jsonl:1: not JSON"):
        load_beir(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no file .*qrels\.tsv"):
        load_beir(tmp_path)
