"""Pairs from the structure of Markdown, HTML and JSON lines."""

import json
from pathlib import Path

import pytest

from m3core import InvalidInput
from m3core.train.making.pairs import Cleaning, Pair, pair_files, raw_pairs, says_little, telling
from m3core.wording import is_chinese, one_line, words

LONG = "Sentences of this paragraph say what the section is about, at some length, so that it is worth being found."
ZH = "这一段文字说明本节的内容，篇幅足够长，值得被检索到，因此应当保留下来。"


def pairs(tmp_path: Path, name: str, content: str | bytes, **options: object) -> list[Pair]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(Cleaning(**{"min_words": 5, **options})(raw_pairs(path)))


def by_query(found: list[Pair]) -> dict[str, tuple[str, str]]:
    return {pair.query: (pair.kind, pair.text) for pair in found}


def test_markdown_gives_titles_headings_and_questions(tmp_path: Path) -> None:
    found = by_query(
        pairs(
            tmp_path,
            "a.md",
            f"# Packing boxes well\n\nThe lead says what it is good for.\n\n## 1.2 Choosing a box\n\n{LONG}\n\n"
            "```sh\nrm -rf code\n```\n\n"
            f"### How large is large enough?\n\n{LONG} No larger.\n\n"
            "## License\n\nMIT, as every other project of this kind is, too.\n",
        )
    )
    assert found["Choosing a box"] == ("heading", LONG)
    assert found["How large is large enough?"] == ("question", f"{LONG} No larger.")
    kind, text = found.pop("Packing boxes well")
    assert kind == "title"
    assert text.splitlines() == [
        "The lead says what it is good for.", "1.2 Choosing a box", LONG, "How large is large enough?",
        f"{LONG} No larger.",
    ]  # fmt: skip
    assert set(found) == {"Choosing a box", "How large is large enough?"}


def test_a_heading_that_says_little_goes_behind_one_that_says_more(tmp_path: Path) -> None:
    found = by_query(
        pairs(
            tmp_path,
            "a.md",
            f"# 装箱算法手册\n\n## 简介\n\n{ZH}\n\n## 第二章 三维情形\n\n### 示例\n\n{ZH}其二。\n\n"
            f"### Usage\n\n{ZH}其三。\n",
        )
    )
    assert {"装箱算法手册: 简介", "三维情形: 示例", "三维情形: Usage", "装箱算法手册"} == set(found)


def test_without_a_telling_heading_there_is_no_pair(tmp_path: Path) -> None:
    assert pairs(tmp_path, "a.md", f"# README\n\n## Usage\n\n{LONG}\n") == []
    assert pairs(tmp_path, "b.md", f"{LONG}\n\n{LONG}\n") == []


@pytest.mark.parametrize(
    ("heading", "bare"),
    [
        ("3.1.4. Solving the packing problem", "Solving the packing problem"),
        ("第三章 安装与配置环境", "安装与配置环境"),
        ("第 12 章 分析当前设置", "分析当前设置"),
        ("Chapter 4. Growing old together", "Growing old together"),
        ("附录 A. 常用命令一览", "常用命令一览"),
        ("一、项目的历史与背景", "项目的历史与背景"),
        ("A.2 Building from the source", "Building from the source"),
        ("10 tips for packing", "10 tips for packing"),
        ("3D packing of boxes", "3D packing of boxes"),
        ("What to bring:", "What to bring"),
    ],
)
def test_numbers_of_headings_go(heading: str, bare: str) -> None:
    assert telling([heading]) == bare


@pytest.mark.parametrize("heading", ["Introduction", "简介", "Version 3.0.1", "2024-01-02", "Getting started", "", "Q"])
def test_headings_that_say_little(heading: str) -> None:
    assert says_little(heading)


@pytest.mark.parametrize("heading", ["Installing Debian", "安装包", "Version control", "如何安装", "TCP 连接"])
def test_headings_that_say_enough(heading: str) -> None:
    assert not says_little(heading)


HTML = f"""<!doctype html><html lang="en"><head><title>Boxes — Manual</title><style>p {{}}</style></head><body>
<nav><h2>Navigation of all the pages</h2><p>{LONG} But navigation.</p></nav>
<div class="sphinxsidebar" role="navigation"><h3>Sidebar of this very page</h3><p>{LONG} But beside it.</p></div>
<div role="main">
<h1>The art of boxes<a class="headerlink" href="#x">¶</a></h1>
<p>Boxes hold <b>things</b>, and
things are<br>held by boxes of all sizes.</p>
<ul><li><a href="a">Previous: the art of bags</a></li>
<li>An item that is <a href="b">linked</a> but mostly text</li></ul>
<h2>Closing a box firmly &amp; for good</h2>
<div><p>{LONG}</p><pre>close --now</pre><table><tr><td>cell</td></tr></table>
<p>{ZH[:12]}
{ZH[12:]}</p></div>
<dl><dt>Why do boxes have lids?</dt><dd><p>{LONG} Lids keep it inside.</p></dd>
<dt>lid</dt><dd>What closes a box from above.</dd></dl>
<details><summary>Is a bag a box?</summary><p>{LONG} It is not.</p></details>
</div><div class="footer"><h2>The footer of the page</h2><p>{LONG} Footer.</p></div></body></html>"""


def test_html_without_what_is_around_it(tmp_path: Path) -> None:
    found = by_query(pairs(tmp_path, "a.html", HTML))
    assert set(found) == {
        "The art of boxes", "Closing a box firmly & for good", "Why do boxes have lids?", "Is a bag a box?",
    }  # fmt: skip
    kind, text = found["The art of boxes"]
    assert kind == "title"
    assert text.splitlines()[:2] == [
        "Boxes hold things, and things are held by boxes of all sizes.",
        "An item that is linked but mostly text",
    ]
    assert found["Closing a box firmly & for good"][1].splitlines() == [
        LONG,
        ZH,
        "lid",
        "What closes a box from above.",
    ]
    assert found["Why do boxes have lids?"] == ("question", f"{LONG} Lids keep it inside.")
    assert found["Is a bag a box?"] == ("question", f"{LONG} It is not.")


def test_html_in_markdown_and_front_matter(tmp_path: Path) -> None:
    front = "---\ntitle: '装箱问题的解法'\ntags: [a]\n---\n"
    text = f"{ZH}\n\n<details><summary>这是什么？</summary>\n\n{ZH}二\n\n</details>\n"
    found = by_query(pairs(tmp_path, "a.md", front + text))
    assert found == {"这是什么？": ("question", f"{ZH}二"), "装箱问题的解法": ("heading", ZH)}


def test_marked_questions_and_answers(tmp_path: Path) -> None:
    text = f"# Asked often enough\n\nQ: Who packs?\n\nA: {LONG}\n\nAnd more.\n\n问：谁来装箱？\n\n答：{ZH}\n"
    found = by_query(pairs(tmp_path, "a.md", text))
    assert found["Who packs?"] == ("question", f"{LONG}\nAnd more.")
    assert found["谁来装箱？"] == ("question", ZH)


@pytest.mark.parametrize("declared", ["gb2312", "big5"])
def test_a_page_in_the_encoding_that_it_declares(tmp_path: Path, declared: str) -> None:
    body = "這一段文字説明内容" if declared == "big5" else ZH
    page = f'<meta charset="{declared}"><h1>装箱{"" if declared == "gb2312" else "的"}</h1><h2>文字的編碼</h2><p>{body}'
    data = page.replace("装", "裝").encode("gb18030" if declared == "gb2312" else declared, "ignore")
    assert body[:4] in pairs(tmp_path, "a.htm", data)[-1].text


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    for name in ("a.html", "a.md"):
        with pytest.raises(InvalidInput, match=f"{name} is "):
            pairs(tmp_path, name, "标题".encode("gb18030"))


@pytest.mark.parametrize("content", ["", "   ", "<!-- -->", "<html></html>", "<h1></h1><h2>¶</h2>"])
def test_an_empty_page_holds_nothing(tmp_path: Path, content: str) -> None:
    assert pairs(tmp_path, "a.html", content) == []
    assert pairs(tmp_path, "a.md", content) == []


def test_a_deep_page_is_read(tmp_path: Path) -> None:
    [pair] = pairs(tmp_path, "a.html", f"{'<div>' * 1500}<h1>The innermost box</h1><p>{LONG}")
    assert pair == Pair("heading", "The innermost box", LONG)


def test_json_lines(tmp_path: Path) -> None:
    records = [
        {"title": "A title of some kind", "body": LONG, "year": 2024},
        {"title": "Another title", "content": ZH, "url": None},
        {"question": "谁？为什么装箱？", "answer": ZH + "二"},
        {"heading": "3. The heading of it", "section": f"{LONG} 2"},
    ]
    found = pairs(tmp_path, "a.jsonl", "".join(json.dumps(r) + "\n" for r in records))
    assert [(pair.kind, pair.query) for pair in found] == [
        ("title", "A title of some kind"), ("title", "Another title"), ("question", "谁？为什么装箱？"),
        ("heading", "The heading of it"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"title": "x"}', "a.jsonl:2: holds no pair, only title"),
        ('{"title": "x", "text": 3}', "a.jsonl:2: text"),
        ("[1]", "a.jsonl:2: expected a JSON object"),
        ("{", "a.jsonl:2: not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        pairs(tmp_path, "a.jsonl", json.dumps({"title": "A good one", "text": LONG}) + "\n" + line)


def test_texts_have_a_least_and_a_largest_length(tmp_path: Path) -> None:
    cleaning = Cleaning(min_words=10, max_words=40)
    short, exact = "one two three four five six seven eight nine", "一二三四五六七八九十"
    given = [Pair("heading", f"heading no {i}", text) for i, text in enumerate([short, exact, f"{LONG}\n" * 9])]
    kept = list(cleaning(given))
    assert [pair.text for pair in kept] == [exact, f"{LONG}\n{LONG}"]
    assert words(kept[1].text) == 40
    assert cleaning.dropped == {"text too short": 1}
    assert list(cleaning([Pair("heading", "other heading", "word " * 41)])) == []
    assert cleaning.dropped["text too long"] == 1


def test_each_query_and_each_text_once_and_prose_only() -> None:
    cleaning = Cleaning(min_words=3)
    given = [
        Pair("title", "The first one", LONG), Pair("heading", "the  First one", ZH),
        Pair("heading", "Another one", LONG), Pair("heading", "Numbers of it", "1 2 3 4 5 6 7 8 9 10 11 12"),
        Pair("heading", "x " * 70, ZH), Pair("heading", "The last one", ZH),
    ]  # fmt: skip
    assert [pair.query for pair in cleaning(given)] == ["The first one", "The last one"]
    assert cleaning.dropped == {"repeated": 2, "not prose": 1, "heading too long": 1}


def test_kinds_that_are_not_asked_for_do_not_count(tmp_path: Path) -> None:
    cleaning = Cleaning(kinds=["question"], min_words=3)
    assert list(cleaning([Pair("heading", "The last one", ZH)])) == []
    assert [p.query for p in cleaning([Pair("question", "Was it the last?", ZH)])] == ["Was it the last?"]
    assert not cleaning.dropped
    for options in ({"kinds": ["headings"]}, {"kinds": []}, {"min_words": 9, "max_words": 9}, {"min_words": 0}):
        with pytest.raises(InvalidInput):
            Cleaning(**options)


def test_files_of_folders(tmp_path: Path) -> None:
    for name in ("b/z.html", "a.md", "b/.git/c.md", "d.txt", "b/e.JSONL", ".hidden.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    names = ["a.md", "b/e.JSONL", "b/z.html"]
    assert pair_files([tmp_path, tmp_path / "a.md"]) == [tmp_path / name for name in names]
    for source, message in (
        ("d.txt", "none of them"),
        ("none", "no file or folder"),
        ("b/.git/x", "no file or folder"),
    ):
        with pytest.raises(InvalidInput, match=message):
            pair_files([tmp_path / source])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="there is no file"):
        pair_files([tmp_path / "empty"])


def test_words_and_languages() -> None:
    assert words("装箱 of 3 boxes，是的。") == 7
    assert words("don't_stop") == 3
    assert is_chinese("用 Debian 安装 Python 软件包")
    assert not is_chinese("Installing the package 中文 from Debian")
    assert not is_chinese("これはペンです、日本語の文章")
    assert not is_chinese("")
    assert one_line("装箱\n  问题 of\n boxes") == "装箱问题 of boxes"
