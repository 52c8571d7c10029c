from pathlib import Path

import pytest

from m3core.mini.build.sections import document_pairs
from m3core.mini.build.texts import Pair

CHINESE = "这里说的是怎样在屏幕上打开一个文件，怎样读它，以及怎样把它再保存起来。"
ENGLISH = "This tells how to open a file on the screen, how to read it, and how to save it again."
SAVING = "要保存文件，请在菜单里选择保存，然后给它起一个名字，再选择一个文件夹。"
TO_SAVE = "To save a file choose Save from the menu, give it a name, and then choose a folder."


def save(path: Path, *sections: tuple[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"<h2>{heading}</h2><p>{text}</p>" for heading, text in sections), "utf-8")


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("help-zh-cn/help/zh-CN/text/a.html", "help-en-us/help/en-US/text/a.html"),
        ("reference-zh-cn/ch03.zh-cn.html", "reference-en/ch03.en.html"),
        ("guide/zh_CN/a.html", "guide/en/a.html"),
        ("faq-zh-cn/FAQ/zh-cn/a.zh-cn.html", "faq/FAQ/a.html"),
        ("doc-zh/doc/kicad/help/zh/a.html", "doc-en/doc/kicad/help/en/a.html"),
    ],
)
def test_pages_that_differ_in_language_alone_have_the_same_sections(tmp_path: Path, chinese: str, english: str) -> None:
    save(tmp_path / chinese, ("打开一个文件", CHINESE), ("保存一个文件", SAVING))
    save(tmp_path / english, ("Opening a file", ENGLISH), ("Saving a file", TO_SAVE))
    pairs = list(document_pairs(tmp_path))
    assert len(pairs) == 8
    assert set(pairs[:4]) == {
        Pair("zh", "打开一个文件", CHINESE),
        Pair("zh", "保存一个文件", SAVING),
        Pair("en", "Opening a file", ENGLISH),
        Pair("en", "Saving a file", TO_SAVE),
    }
    assert pairs[4:6] == [Pair("zh2en", "打开一个文件", ENGLISH), Pair("en2zh", "Opening a file", CHINESE)]


def test_pages_with_other_headings_are_not_put_side_by_side(tmp_path: Path) -> None:
    save(tmp_path / "zh" / "a.html", ("打开一个文件", CHINESE), ("保存一个文件", SAVING))
    save(tmp_path / "en" / "a.html", ("Opening a file", ENGLISH))
    assert {pair.kind for pair in document_pairs(tmp_path)} == {"zh", "en"}


def test_a_section_that_is_short_or_was_not_translated_is_left_out(tmp_path: Path) -> None:
    save(tmp_path / "zh" / "a.html", ("打开一个文件", ENGLISH), ("保存一个文件", SAVING), ("关闭一个文件", "按它。"))
    save(
        tmp_path / "en" / "a.html", ("Opening a file", ENGLISH), ("Saving a file", TO_SAVE), ("Closing a file", "Esc.")
    )
    assert list(document_pairs(tmp_path)) == [
        Pair("en", "Opening a file", ENGLISH),
        Pair("en", "Saving a file", TO_SAVE),
        Pair("zh", "保存一个文件", SAVING),
        Pair("zh2en", "保存一个文件", TO_SAVE),
        Pair("en2zh", "Saving a file", SAVING),
    ]


def test_a_page_in_no_known_language_is_left_out(tmp_path: Path) -> None:
    save(tmp_path / "guide" / "es" / "a.html", ("Opening a file", ENGLISH))
    assert not list(document_pairs(tmp_path))
