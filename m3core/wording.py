"""How long a text is, whether it is Chinese, and when two texts are the same: one rule for all that reads texts."""

import re

_HAN = "㐀-䶿一-鿿豈-﫿\U00020000-\U0003134f"
_KANA = "぀-ヿㇰ-ㇿ"
_WORD = re.compile(rf"[{_HAN}{_KANA}]|[^\W_{_HAN}{_KANA}]+")
_IS_HAN, _IS_KANA = re.compile(f"[{_HAN}]"), re.compile(f"[{_KANA}]")
_MARKS = "，。、；：！？（）「」“”《》"
_LINE_BREAK = re.compile(rf"(?<=[{_HAN}{_KANA}{_MARKS}])\s*\n\s*(?=[{_HAN}{_KANA}{_MARKS}])")
_CHINESE_SHARE = 0.3  # of the words; a text about software is half English names
_KANA_SHARE = 0.1  # of the characters of Chinese origin: Japanese


def words(text: str) -> int:
    """The length of a text as word processors count it: a Chinese or Japanese character is a word of its own."""
    return sum(1 for _ in _WORD.finditer(text))


def is_chinese(text: str) -> bool:
    """Whether a text is in Chinese, English names within it notwithstanding."""
    han, kana = len(_IS_HAN.findall(text)), len(_IS_KANA.findall(text))
    return han >= _CHINESE_SHARE * max(1, words(text)) and kana <= _KANA_SHARE * han


def one_line(text: str) -> str:
    """The text with every run of white space made one space; none where a line of Chinese was broken."""
    return " ".join(_LINE_BREAK.sub("", text).split())


def key(text: str) -> str:
    """What texts that differ in nothing but white space have in common."""
    return " ".join(text.split())
