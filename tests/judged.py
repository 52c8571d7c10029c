"""Small judged sets, made in code."""

from collections.abc import Mapping, Sequence

from m3core.evaluation import JudgedSet
from m3core.evaluation.beir import Passages


def judged_set(
    corpus: Mapping[str, str],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    name: str = "tiny",
    metadata: Sequence[Mapping[str, object]] | None = None,
) -> JudgedSet:
    return JudgedSet(
        name,
        Passages(list(corpus), list(corpus.values()), [{} for _ in corpus]),
        Passages(list(queries), list(queries.values()), list(metadata or [{} for _ in queries])),
        {query: dict(row) for query, row in qrels.items()},
    )


def count_words(texts: Sequence[str]) -> list[int]:
    """Words stand for tokens, and two special ones go around each text."""
    return [len(text.split()) + 2 for text in texts]
