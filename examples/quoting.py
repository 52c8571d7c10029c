"""A deterministic answerer for the examples: from each passage it quotes the sentence that fits the question best."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from m3core import M3Encoder

NOTHING = "没有找到相关的论据。"


def quotes(encoder: M3Encoder, question: str, passages: Sequence[str]) -> Iterator[str]:
    """An answer made of quotations, one at a time, each with the number of its passage: `“…”[1]`."""
    if not passages:
        yield NOTHING
        return
    sentences = [[s.strip() for s in re.findall(r"[^。！？!?]+[。！？!?]*[”」]?", passage)] for passage in passages]
    encoded = encoder.encode_documents([s for passage in sentences for s in passage])
    scores = encoder.encode_queries([question]).score(encoded)[0]
    cuts = np.cumsum([0, *map(len, sentences)])
    for n, (first, last) in enumerate(pairwise(cuts)):
        best = int(scores[first:last].argmax())
        yield ("\n" if n else "") + f"“{sentences[n][best]}”[{n + 1}]"


def standalone(question: str, history: Sequence[tuple[str, str]]) -> str:
    """What to search for when a question follows another: both, because the second alone may not say what it is about.

    Args:
        question: the new one.
        history: earlier questions and their answers, oldest first.
    """
    return f"{history[-1][0]} {question}" if history else question
