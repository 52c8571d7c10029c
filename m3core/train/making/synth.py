"""Synthetic questions about long documents, as MultiLongDoc was made (BGE-M3, arXiv 2402.03216, appendix A).

A passage of a long text is drawn, a language model writes a question about it, and this goes with the whole text.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from m3core.errors import InvalidInput
from m3core.records import Record
from m3core.train.making.questions import Refused, prompt_for, question_in
from m3core.train.records import Example
from m3core.wording import words

Ask = Callable[[list[str]], Sequence[str]]
"""Gives a language model's answer to each prompt, in order; an empty one where it failed."""

_PASSAGE = (40, 300)  # words; shorter lines are drawn together with the next ones
_LONGEST_SENTENCE = 2000  # characters; what is longer is no sentence, and is cut
_SENTENCE = re.compile(r"(?<=[。！？])|(?<=[.!?])\s+")


@dataclass(frozen=True)
class Outcome:
    """What came of a document.

    Attributes:
        id: the document's.
        example: the question and the whole text, or `None`.
        problem: why there is none; empty if there is one.
    """

    id: str
    example: Example | None
    problem: str = ""


def synthesize(
    documents: Iterable[Record],
    ask: Ask,
    *,
    min_words: int = 500,
    tries: int = 3,
    batch: int = 16,
    seed: int = 0,
) -> Iterator[Outcome]:
    """Asks for one question about each document.

    Which passage is drawn depends on nothing but the seed and the document's id, so that a run that goes on where
    another stopped makes what that would have made.

    Args:
        documents: long texts, read as they are needed.
        ask: the language model.
        min_words: documents with fewer words are passed over. A Chinese character is a word.
        tries: how often to ask about a document, each time about another passage, if an answer cannot be used.
        batch: how many prompts to ask at once.
        seed: of the choice of passages.

    Returns:
        An `Outcome` for each document: batch by batch, those with a question as soon as there is one.

    Raises:
        InvalidInput: an option that cannot be used, or `ask` gives another number of answers than it got prompts.
            Whatever `ask` raises comes through; what came before is good.
    """
    for name, value in (("min_words", min_words), ("tries", tries), ("batch", batch)):
        if value < 1:
            raise InvalidInput(f"{name} must be at least 1, not {value}")
    source = iter(documents)
    blocks = iter(lambda: list(islice(source, batch)), [])
    return (outcome for block in blocks for outcome in _outcomes(block, ask, min_words, tries, seed))


def _outcomes(block: Sequence[Record], ask: Ask, min_words: int, tries: int, seed: int) -> Iterator[Outcome]:
    problems = dict.fromkeys(range(len(block)), "too short")
    long_ones = [place for place, document in enumerate(block) if words(document.text) >= min_words]
    drawn = {place: _drawn(block[place], tries, seed) for place in long_ones}
    for attempt in range(tries):
        passages = {place: drawn[place][attempt % len(drawn[place])] for place in drawn if place in problems}
        answers = ask([prompt_for(passage) for passage in passages.values()]) if passages else ()
        if len(answers) != len(passages):
            raise InvalidInput(f"the language model gave {len(answers)} answers to {len(passages)} prompts")
        for (place, passage), answer in zip(passages.items(), answers, strict=True):
            question = question_in(answer, passage)
            if isinstance(question, Refused):
                problems[place] = question.reason
                continue
            del problems[place]
            yield Outcome(block[place].id, Example(question, (block[place].text,)))
    for place, problem in problems.items():
        yield Outcome(block[place].id, None, problem)


def _drawn(document: Record, most: int, seed: int) -> list[str]:
    """Some passages of a document, in random order."""
    passages = passages_in(document.text)
    order = random.Random(f"{seed} {document.id}")  # noqa: S311
    return order.sample(passages, min(most, len(passages)))


def passages_in(text: str) -> list[str]:
    """The paragraphs of a text: lines, drawn together until they are long enough to ask about, or cut at sentences."""
    shortest, longest = _PASSAGE
    passages: list[str] = []
    current = ""
    for piece in _pieces(text, longest):
        if current and (words(current) >= shortest or words(current) + words(piece) > longest):
            passages.append(current)
            current = ""
        current = f"{current}\n{piece}" if current else piece
    if current and (words(current) >= shortest or not passages):
        passages.append(current)
    return passages


def _pieces(text: str, longest: int) -> Iterator[str]:
    """Lines, and of long lines sentences."""
    for line in filter(None, map(str.strip, text.splitlines())):
        if words(line) <= longest and len(line) <= _LONGEST_SENTENCE:
            yield line
        else:
            yield from filter(None, (sentence.strip()[:_LONGEST_SENTENCE] for sentence in _SENTENCE.split(line)))
