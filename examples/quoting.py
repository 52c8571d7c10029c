"""A deterministic answerer for the examples: from each passage it quotes the sentence that fits the question best."""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from m3core import M3Encoder


def quote(encoder: M3Encoder, question: str, passages: Sequence[str]) -> str:
    """An answer made of quotations, each with the number of its passage: `“…”[1]`."""
    if not passages:
        return "没有找到相关的论据。"
    sentences = [[s.strip() for s in re.findall(r"[^。！？!?]+[。！？!?]*[”」]?", passage)] for passage in passages]
    encoded = encoder.encode_documents([s for passage in sentences for s in passage])
    scores = encoder.encode_queries([question]).score(encoded)[0]
    cuts = np.cumsum([0, *map(len, sentences)])
    best = [int(scores[first:last].argmax()) for first, last in pairwise(cuts)]
    return "\n".join(f"“{sentences[n][i]}”[{n + 1}]" for n, i in enumerate(best))
