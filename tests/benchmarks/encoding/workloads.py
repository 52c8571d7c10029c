"""What the systems of the encoder benchmark are asked to do."""

import random
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from encoding.texts import SEED, Lengths, make_passages, make_queries, make_texts

MODES = {
    "dense": ["dense"],
    "dense+sparse": ["dense", "sparse"],
    "three": ["dense", "sparse", "multivector"],
}
TITLES = {
    "queries": "short queries, one by one",
    "chunks": "RAG chunks",
    "mixture": "mixture of all",
    "long": "long documents",
}
_LONG = (1000, 8000)  # tokens of the shortest and of the longest document
_FULL = 2  # documents that are as long as the model takes, for the memory that they need


@dataclass(frozen=True)
class Workload:
    """Texts to encode.

    Attributes:
        texts: what is encoded, in one call, or each in its own if `singly`.
        singly: whether it is about the time that one text takes.
        all_modes: whether each set of modes is measured that a system has, or the widest only.
        long: whether a text is longer than passages are. A peer that pads a number of texts to the longest then takes
            fewer at a time.
        lengths: of the texts, in tokens.
    """

    texts: list[str]
    singly: bool
    all_modes: bool
    long: bool
    lengths: Lengths

    def sets(self, modes: tuple[str, ...]) -> tuple[str, ...]:
        """Which of a system's sets of modes are measured."""
        return modes if self.all_modes else modes[-1:]


def make_workloads(
    wanted: list[str],
    tokenizer: Tokenizer,
    max_length: int,
    *,
    queries: int,
    passages: int,
    documents: int,
    spread: float,
) -> dict[str, Workload]:
    """The workloads among `wanted` that a model with this `max_length` can do.

    Long documents are as many, of lengths that grow by the same factor. The mixture has all queries, half of the
    passages and half of the documents, the longest among them, shuffled.
    """
    short = make_queries(queries)
    chunks = make_passages(passages, spread, tokenizer, max_length)
    fits = documents and max_length >= _LONG[1] and {"long", "mixture"} & set(wanted)
    whole = make_texts(np.geomspace(*_LONG, documents).astype(int).tolist(), tokenizer) if fits else []
    mixed = short + chunks[::2] + whole[::-2]
    random.Random(SEED).shuffle(mixed)

    def workload(texts: list[str], singly: bool, all_modes: bool) -> Workload:
        return Workload(texts, singly, all_modes, bool(set(whole) & set(texts)), Lengths.of(texts, tokenizer))

    made = {
        "queries": workload(short, True, True),
        "chunks": workload(chunks, False, True),
        "mixture": workload(mixed, False, False),
    }
    if whole:
        made["long"] = workload(whole, False, False)
    return {name: made[name] for name in made if name in wanted}


def full_documents(tokenizer: Tokenizer, max_length: int) -> list[str]:
    """Documents as long as the model takes them; none if that is no longer than passages are."""
    return make_texts([max_length] * _FULL, tokenizer) if max_length >= _LONG[1] else []
