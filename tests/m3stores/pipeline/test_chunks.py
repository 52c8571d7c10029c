"""Passages of documents."""

import pytest

from m3core import InvalidInput, M3Encoder
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.documents import Document

ZH = "人工智能正在改变世界。很多人担心失业！“真的吗？”他问。然而历史表明，新技术会创造新岗位；旧岗位消失。"


def text(content: str, kind: str = "text") -> Document:
    return Document("d", content, "d", {"source": "d"}, kind=kind)


def test_passages_end_with_sentences_and_fit(mini: M3Encoder) -> None:
    passages = Chunker(mini, 64, 0)(text(ZH * 10))
    assert len(passages) == 5
    assert [p.id for p in passages[:3]] == ["d", "d#passage1", "d#passage2"]
    assert [p.metadata for p in passages[:2]] == [{"source": "d", "m3_document": "d", "m3_passage": n} for n in (0, 1)]
    assert "".join(p.text for p in passages) == ZH * 10
    assert max(mini.count_tokens([p.text for p in passages])) <= 64
    assert all(p.text[-1] in "。！？”" for p in passages)


def test_neighbours_share_what_overlaps(mini: M3Encoder) -> None:
    one, other, *_ = Chunker(mini, 64, 24)(text("".join(f"第{n}年有{n * n}个人来。" for n in range(60))))
    shared = next(n for n in range(len(other.text), 0, -1) if one.text.endswith(other.text[:n]))
    assert 2 <= mini.count_tokens([other.text[:shared]])[0] - 2 <= 24


def test_markdown_is_split_at_headings(mini: M3Encoder) -> None:
    content = "# One\n\n" + "Some words of the first part. " * 6 + "\n\n# Two\n\n" + "Others of the second. " * 6
    passages = Chunker(mini, 64, 0)(text(content, "markdown"))
    assert sum(p.text.startswith("# ") for p in passages) == 2


def test_markdown_has_no_passages_of_signs(mini: M3Encoder) -> None:
    passages = Chunker(mini, 64, 0)(text("Do this:\n\n```\n" + "run --it now\n" * 60 + "```\n\n---\n", "markdown"))
    assert len(passages) > 3
    assert all(any(map(str.isalnum, p.text)) for p in passages)
    assert [p.metadata["m3_passage"] for p in passages] == list(range(len(passages)))


def test_records_are_whole_as_far_as_the_model_reads(mini: M3Encoder) -> None:
    short, long = Document("s", "短", "s", {"a": 1}), Document("l", ZH * 30, "l", {"a": 1})
    assert [(p.id, p.text, p.metadata) for p in Chunker(mini)(short)] == [("s", "短", {"a": 1})]
    passages = Chunker(mini)(long)
    assert len(passages) > 1
    assert passages[1].metadata == {"a": 1, "m3_document": passages[0].id, "m3_passage": 1}
    assert max(mini.count_tokens([p.text for p in passages])) <= 512
    assert len(Chunker(mini, 64)(long)) > len(passages)


def test_nothing_has_no_passages(mini: M3Encoder) -> None:
    chunker = Chunker(mini)
    assert chunker(text(" \n ")) == chunker(Document("r", "", "r")) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [((4,), "from 8 to 512"), ((513,), "from 8 to 512"), ((64, 62), "overlap"), ((64, -1), "overlap")],
)
def test_lengths_that_cannot_be(mini: M3Encoder, arguments: tuple[int, ...], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        Chunker(mini, *arguments)
