"""Synthetic questions: which passages are asked about, and which answers are taken."""

from collections.abc import Sequence

import pytest

from m3core import InvalidInput
from m3core.records import Record
from m3core.train.making.questions import Refused, prompt_for, question_in
from m3core.train.making.synth import Outcome, passages_in, synthesize
from m3core.wording import is_chinese, words

ENGLISH = "The bridge over the Elbe was opened in 1893 and is painted in a light blue, which gave it its name."
CHINESE = "易北河上的这座桥于一八九三年通车，桥身漆成浅蓝色，因此得名蓝色奇迹，至今仍是城市的象征。"


def document(name: str, paragraphs: int = 12, *, text: str = ENGLISH) -> Record:
    return Record(name, "\n\n".join(f"{text} Part {i} of {name}. {text}" for i in range(paragraphs)))


class Scripted:
    """Answers by a rule, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.batches = answers, list[list[str]]()

    def __call__(self, prompts: list[str]) -> Sequence[str]:
        self.batches.append(prompts)
        return [self.answers[(len(self.batches) - 1) % len(self.answers)]] * len(prompts)


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("When was it built?", "When was it built?"),
        ('  "When was it built?"\n', "When was it built?"),
        ("1. When was it built?", "When was it built?"),
        ("Question: **When was it built?**", "When was it built?"),
        ("Sure, here is one:\n\n- “When was it built?”\n", "When was it built?"),
        ("<think>\nIs it a bridge?\n</think>\nWhen was it built?", "When was it built?"),
        ("Tell me when it was built", "Tell me when it was built"),
        ("1893 was the year of what?", "1893 was the year of what?"),
    ],
)
def test_the_question_without_what_is_around_it(answer: str, question: str) -> None:
    assert question_in(answer, ENGLISH) == question


def test_a_chinese_question() -> None:
    assert question_in("问题：「蓝色奇迹何时通车？」", CHINESE) == "蓝色奇迹何时通车？"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty answer"),
        ("  \n", "empty answer"),
        ("...", "empty answer"),
        ("<think>When was it built? Hm", "empty answer"),
        ("why " * 65 + "?", "answer too long"),
        ("the bridge over the Elbe was opened in 1893?", "copied from the passage"),
        ("这座桥是什么时候通车的？", "in another language"),
    ],
)
def test_answers_that_are_refused(answer: str, reason: str) -> None:
    assert question_in(answer, ENGLISH) == Refused(reason)


def test_the_prompt_has_the_passage_and_its_language() -> None:
    assert CHINESE in prompt_for(CHINESE)
    assert is_chinese(prompt_for(CHINESE))
    assert ENGLISH in prompt_for(ENGLISH)
    assert not is_chinese(prompt_for(ENGLISH))
    assert "{not a field}" in prompt_for("{not a field}")


def test_each_question_goes_with_its_whole_document() -> None:
    documents = [document("a"), document("b"), document("c", text=CHINESE)]
    ask = Scripted("When was it built?")
    made = list(synthesize(documents[:2], ask, min_words=100))
    assert [(o.id, o.example.query, o.example.positives) for o in made if o.example] == [
        (d.id, "When was it built?", (d.text,)) for d in documents[:2]
    ]
    [asked] = ask.batches
    for prompt, source in zip(asked, documents, strict=False):
        assert f"of {source.id}." in prompt
        assert source.text not in prompt
    assert list(synthesize(documents[2:], ask, min_words=100)) == [Outcome("c", None, "in another language")]


def test_it_tries_again_with_another_passage_and_then_gives_up() -> None:
    ask = Scripted("", "nothing but " * 40, "When was it built?")
    [made] = synthesize([document("a")], ask, min_words=100)
    assert made.example
    assert len({prompt for [prompt] in ask.batches}) == 3
    ask = Scripted("", "nothing but " * 40, "When was it built?")
    assert list(synthesize([document("a")], ask, min_words=100, tries=2)) == [Outcome("a", None, "answer too long")]
    assert len(ask.batches) == 2


def test_only_those_without_a_question_are_asked_about_again() -> None:
    def ask(prompts: list[str]) -> list[str]:
        asked.append(len(prompts))
        return ["" if "of b." in prompt else "When was it built?" for prompt in prompts]

    asked: list[int] = []
    made = list(synthesize([document(name) for name in "abc"], ask, min_words=100, batch=2, tries=2))
    assert [(o.id, o.problem) for o in made] == [("a", ""), ("b", "empty answer"), ("c", "")]
    assert asked == [2, 1, 1]


def test_passages_depend_on_seed_and_document_alone() -> None:
    def asked(seed: int, *names: str) -> str:
        ask = Scripted("When was it built?")
        list(synthesize([document(name, 30) for name in names], ask, min_words=100, seed=seed))
        return ask.batches[-1][-1]

    assert asked(0, "a") == asked(0, "x", "y", "a")
    assert len({asked(seed, "a") for seed in range(8)}) > 3


def test_short_documents_are_not_asked_about() -> None:
    ask = Scripted("When was it built?")
    made = list(synthesize([document("a", 1), document("b", 12)], ask, min_words=100))
    assert {o.id: o.problem for o in made} == {"a": "too short", "b": ""}
    assert [len(prompts) for prompts in ask.batches] == [1]
    assert [o.problem for o in synthesize([document("a", 1)], ask, min_words=100)] == ["too short"]
    assert len(ask.batches) == 1


@pytest.mark.parametrize("batch", [2, 3])
def test_what_was_made_before_the_model_fails_is_yielded(batch: int) -> None:
    def ask(prompts: list[str]) -> list[str]:
        if "of c." in prompts[0]:  # in a batch of three, asked a second time
            raise ConnectionError("gone")
        return ["" if "of c." in prompt else "When was it built?" for prompt in prompts]

    made = synthesize([document(name) for name in "abcd"], ask, min_words=100, batch=batch)
    assert [next(made).id, next(made).id] == ["a", "b"]
    with pytest.raises(ConnectionError):
        next(made)


@pytest.mark.parametrize(
    "text", [document("a").text, CHINESE * 60, "word " * 3000, "x" * 20_000, "一\n二\n三", "short"]
)
def test_passages_are_neither_tiny_nor_huge(text: str) -> None:
    passages = passages_in(text)
    assert passages
    for passage in passages:
        assert words(passage) <= 300 or len(passage) <= 2000
    if words(text) > 100 and len(passages) > 1:
        assert min(map(words, passages)) >= 40


def test_options_and_answers_that_cannot_be_are_named() -> None:
    for options in ({"batch": 0}, {"tries": 0}, {"min_words": 0}):
        with pytest.raises(InvalidInput, match="must be at least 1"):
            synthesize([], Scripted(""), **options)
    with pytest.raises(InvalidInput, match="0 answers to 1 prompts"):
        list(synthesize([document("a")], lambda prompts: [], min_words=100))
