"""How a language model is asked for a question about a passage, and what of its answers can be used."""

import re
from dataclasses import dataclass

from m3core.wording import is_chinese, key, words

_ENGLISH = """\
Read the passage between the lines and write one question that it answers.

The question is for testing a search engine over many long documents. Ask about what the passage is mainly about, so \
precisely that hardly any other document answers it. Name people, things and places by their names: whoever reads the \
question does not see the passage, so "this", "he" or "the author" mean nothing. Do not copy a sentence. Write in the \
language of the passage. Reply with the question alone.

---
{passage}
---"""

_CHINESE = """\
请阅读两条横线之间的段落，写出一个可以由它回答的问题。

这个问题用来检验一个在大量长文档中查找答案的搜索引擎。请围绕段落的主要内容提问，要具体到其他文档几乎无法回答。人物、事物和地点都用\
名称：看到问题的人看不到段落，所以不要写“这”“他”“作者”之类的指代。不要照抄原句。用中文提问。只输出问题本身。

---
{passage}
---"""

_THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.S)
_LEAD = re.compile(
    r"^(?:[-*•#>]+\s*|\(?\d{1,2}[.)、．:：]\s*|\*\*|(?:Q|question|问|问题|提问)\s*\d*\s*[:：.]\s*(?:\*\*)?\s*)+", re.I
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "『": "』", "`": "`", "《": "》"}
_LONGEST = 64  # words
_SHORTEST = 3


@dataclass(frozen=True)
class Refused:
    """An answer that is no question to train with, and why."""

    reason: str


def prompt_for(passage: str) -> str:
    """What to ask a language model; in Chinese about a Chinese passage."""
    return (_CHINESE if is_chinese(passage) else _ENGLISH).format(passage=passage)


def question_in(answer: str, passage: str) -> str | Refused:
    """The question in an answer, without reasoning, numbering, marks and quotes around it.

    Args:
        answer: what the model wrote.
        passage: what it was asked about.

    Returns:
        The question, or why there is none: the answer is empty, longer than a question is, copied from the passage, or
        in another language.
    """
    lines = [line for line in map(_plain, _THOUGHTS.sub("", answer).splitlines()) if line]
    question = next((line for line in lines if line.endswith(("?", "？"))), lines[0] if lines else "")
    if words(question) < _SHORTEST:
        return Refused("empty answer")
    if words(question) > _LONGEST:
        return Refused("answer too long")
    if _letters(question) in _letters(passage):
        return Refused("copied from the passage")
    if is_chinese(question) != is_chinese(passage):
        return Refused("in another language")
    return question


def _plain(line: str) -> str:
    line = _LEAD.sub("", key(line)).removesuffix("**").strip()
    while len(line) > 1 and _QUOTES.get(line[0]) == line[-1]:
        line = line[1:-1].strip()
    return line


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()
