"""HTML pages and compressed texts as documents."""

import gzip
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from m3core import M3Encoder, MissingDependency
from m3stores import QdrantStore, pipeline
from m3stores.pipeline.chunks import Chunker
from m3stores.pipeline.documents import Columns, Document, Reject
from m3stores.pipeline.sources import Documents


def read(source: Path, *, encoding: str = "utf-8-sig") -> list[Document | Reject]:
    return list(Documents(source, Columns(), encoding))


def text_of(tmp_path: Path, body: str, **more: Any) -> str:
    (tmp_path / "p.html").write_text(body, "utf-8")
    (document,) = read(tmp_path / "p.html", **more)
    assert isinstance(document, Document)
    return document.text


def test_a_page_is_markdown_with_its_title(tmp_path: Path) -> None:
    (tmp_path / "p.html").write_text(
        "<html><head><title>The\n page</title><style>p{}</style></head><body><nav>Home</nav>"
        "<h1>First &amp; last<a class='headerlink' href='#x'>¶</a></h1><p>Some <b>bold</b>\n  text,<br>two&nbsp;lines."
        "<script>x()</script><h2>Second</h2><p>中文的第一行\n第二行。<!-- no --></body>",
        "utf-8",
    )
    assert read(tmp_path / "p.html") == [
        Document(
            "p.html",
            "# First & last\n\nSome bold text,\ntwo lines.\n\n## Second\n\n中文的第一行第二行。",
            "p.html",
            {"source": "p.html", "title": "The page"},
            kind="markdown",
        )
    ]


def test_code_is_kept_as_it_is(tmp_path: Path) -> None:
    page = "<p>Run:<pre class=x>\n  $ <b>a</b> &lt; b\n\n# no heading<br>`````\n</pre>then."
    assert text_of(tmp_path, page) == "Run:\n\n``````\n  $ a < b\n\n# no heading\n`````\n``````\n\nthen."


def test_tables_are_rows_of_cells(tmp_path: Path) -> None:
    page = (
        "<table><caption>Ports</caption><thead><tr><th>Name<th>Port</thead><tr><td><p>s<i>s</i>h</p><td>22"
        "<tr><td><td></tr><tr><td>http<br>web<td>80</table>after"
        "<table><tr><td><ul><li>one</ul><td><pre>two</pre><tr><td><td>Tip</table>"
    )
    assert text_of(tmp_path, page) == (
        "Ports\n\nName | Port\nssh | 22\nhttp web | 80\n\nafter\n- one\n\n```\ntwo\n```\n\nTip"
    )


def test_lists_are_kept(tmp_path: Path) -> None:
    page = (
        "<p>Do:<ol start=3><li>one<li><p>two<p>more<ul><li>inner<pre>x\ny</pre></ul></ol>"
        "<p>Words:<dl><dt>term</dt><dt>other</dt><dd>meaning<dd><p>second</dl>end"
    )
    assert text_of(tmp_path, page) == (
        "Do:\n3. one\n4. two\n\n   more\n   - inner\n\n     ```\n     x\n     y\n     ```\n\n"
        "Words:\n\nterm\nother\n: meaning\n: second\n\nend"
    )


def test_navigation_is_left_out(tmp_path: Path) -> None:
    page = (
        "<div class=toc2>Contents</div><p>[ <a href=0.html>&lt;&lt; Previous</a> ]<hr><ul><li> <a href='#x'>Two</a>"
        "<ul><li><a href='#y'>Deep</a></ul></ul><table><tr><td><a href=1.html>One</a><td><a href=2.html>Two</a></table>"
        "<p>See <a href=x.html>there</a>.<dl><dt><a href=git.html>git</a></dt><dd>tracks</dl>"
        "<p><a href=https://x.org>Other site</a><table><tr><td><a href=3.html>Three</a><td>3</table>"
        "<a name=top><p>in an anchor</a><p><a href=x.html>" + "A whole sentence. " * 6 + "</a>"
    )
    assert text_of(tmp_path, page) == (
        "See there.\n\ngit\n: tracks\n\nOther site\n\nThree | 3\n\nin an anchor\n\n"
        + ("A whole sentence. " * 6).strip()
    )


def test_a_banner_above_the_heading_that_is_the_title_is_left_out(tmp_path: Path) -> None:
    page = "<title>One - Manual</title><p>The maker's manual<h2>{}</h2><p>words<h2>Manual</h2>"
    assert text_of(tmp_path, page.format("One")) == "## One\n\nwords\n\n## Manual"
    assert text_of(tmp_path, page.format("Other")).startswith("The maker's manual")
    abstract = page.replace("<h2>{}", "An abstract. " * 30 + "<h2>One")
    assert text_of(tmp_path, abstract).startswith("The maker's manual")


def test_a_page_without_headings_begins_with_its_title(tmp_path: Path) -> None:
    assert text_of(tmp_path, "<title>The title</title><p>words") == "# The title\n\nwords"


@pytest.mark.parametrize(
    "page", [" \n", "<title>Only a title</title>", "<html><frameset><frame src=a></frameset>", "<!-- x -->"]
)
def test_a_page_without_text_has_no_passages(tmp_path: Path, mini: M3Encoder, page: str) -> None:
    (tmp_path / "p.html").write_text(page, "utf-8")
    (document,) = read(tmp_path / "p.html")
    assert isinstance(document, Document)
    assert Chunker(mini)(document) == []


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>open <b>bold <i>both</b> still</i> &unknown; &#x4e2d; < 5 <3 </p></div></td>end", "中 < 5"),
        ("<td>cell<tr>row<li>item<dd>def<h7>x</", "cell"),
        ("<ul><li>" * 500 + "deep", "deep"),
        ("<p>unclosed <i>" * 10_000, "unclosed"),
        ("a\0b", "b"),
        ("<?xml version='1.0' encoding='gb2312'?><html xmlns='http://www.w3.org/1999/xhtml'><p>好</p></html>", "好"),
    ],
)
def test_broken_pages_are_read(tmp_path: Path, page: str, text: str) -> None:
    started = time.perf_counter()
    assert text in text_of(tmp_path, page)
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("\ufeff<p>简体".encode(), "gb18030"),
        ("<meta charset=big5><p>简体".encode(), "big5"),  # what it declares is wrong
        ("<meta charset='gb2312'><p>简体镕".encode("gb18030"), "utf-8-sig"),
        ("<META http-equiv=Content-Type content='text/html; charset=GB18030'><p>简体".encode("gb18030"), "big5"),
        ("<p>简体".encode("gb18030"), "gb18030"),
        ("<meta charset=Big5><p>繁體".encode("big5"), "utf-8-sig"),
        ("<?xml version='1.0' encoding='GBK'?><p>简体".encode("gbk"), "utf-8-sig"),
        ("<meta charset=x-user-defined><p>简体".encode("gbk"), "gbk"),
        ("<p>简体".encode("utf-16"), "utf-8-sig"),
    ],
)
def test_encodings(tmp_path: Path, data: bytes, encoding: str) -> None:
    (tmp_path / "p.html").write_bytes(data)
    (document,) = read(tmp_path / "p.html", encoding=encoding)
    assert isinstance(document, Document)
    assert document.text in ("简体", "简体镕", "繁體")


def test_what_cannot_be_read_does_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes("<p>没有声明编码".encode("gb18030"))
    (tmp_path / "b.html").write_bytes(b"<p>x" * (50 << 18))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(bytes(50 << 20)))
    (tmp_path / "d.html.gz").write_bytes(gzip.compress(b"<p>words and words" * 100)[:30])
    (tmp_path / "e.md.gz").write_bytes(b"# not compressed")
    (tmp_path / "f.html").write_text("<p><font>x" * 100_000)
    (tmp_path / "z.html").write_text("<p>good")
    *rejects, good = read(tmp_path)
    assert isinstance(good, Document)
    reasons = [reject.reason for reject in rejects if isinstance(reject, Reject)]
    for reason, expected in zip(
        reasons,
        (
            "say its encoding",
            "longer than 16,777,216 bytes",
            "longer than",
            "cannot be read",
            "cannot be read",
            "depth",
        ),
        strict=True,
    ):
        assert expected in reason


def test_compressed_texts_are_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "a.TXT.GZ").write_bytes(gzip.compress("你好\r\n世界".encode("gb18030")))
    (tmp_path / "b.md.gz").write_bytes(gzip.compress(b"# head\n"))
    (tmp_path / "c.htm.gz").write_bytes(gzip.compress("<h1>头</h1>".encode()))
    found = read(tmp_path, encoding="gb18030")
    assert [(d.text, d.kind) for d in found if isinstance(d, Document)] == [
        ("你好\n世界", "text"),
        ("# head\n", "markdown"),
        ("# 头", "markdown"),
    ]


def test_links_lead_nowhere_twice(tmp_path: Path) -> None:
    folder, outside = tmp_path / "docs", tmp_path / "outside.html"
    (folder / "real").mkdir(parents=True)
    outside.write_text("<p>outside")
    (folder / "real" / "page.html").write_text("<p>page")
    (folder / "a.html").symlink_to("real/page.html")
    (folder / "b.html").symlink_to(outside)
    (folder / "c.html").symlink_to("b.html")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "self.html").symlink_to("self.html")
    assert [document.where for document in read(folder)] == ["docs/b.html", "docs/real/page.html"]
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert [document.where for document in read(tmp_path / "link")] == ["docs/b.html", "docs/real/page.html"]


@pytest.mark.parametrize("name", ["p.html", "p.xhtml.gz", "docs"])
def test_without_lxml_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "docs").mkdir()
    for path in (tmp_path / name, tmp_path / "docs" / "p.htm"):
        if not path.is_dir():
            path.write_bytes(gzip.compress(b"<p>x"))
    (tmp_path / "docs" / "a.txt").write_text("x")
    monkeypatch.setitem(sys.modules, "lxml", None)
    with pytest.raises(MissingDependency, match=r"m3-retrieval\[html\]"):
        Documents(tmp_path / name, Columns(), "utf-8")
    Documents(tmp_path / "docs" / "a.txt", Columns(), "utf-8")


def test_a_folder_of_pages_is_found(tmp_path: Path, mini: M3Encoder) -> None:
    (tmp_path / "zh.html").write_bytes("<meta charset=gb2312><h1>安装</h1><p>如何安装软件包。".encode("gbk"))
    (tmp_path / "en.html").write_text("<title>Removing</title><p>How to remove a package.")
    (tmp_path / "empty.html").write_text("")
    with QdrantStore("docs", path=tmp_path / "store") as store:
        summary = pipeline.index(tmp_path, mini, store, modes=("dense",))
        assert (summary.documents, summary.passages, summary.rejected) == (3, 2, 0)
        (hits,) = store.search(mini.encode_queries(["怎样安装"], modes=("dense",)), k=1)
        assert hits[0].metadata["title" if hits[0].id.endswith("en.html") else "source"].endswith("zh.html")
