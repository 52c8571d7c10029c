"""Judged sets of long documents, made from sets of short passages: a needle in a haystack for each query."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from m3core.errors import InvalidInput
from m3core.evaluation.beir import JudgedSet, Passages

_HAYSTACKS = 2  # documents that the passages around needles suffice for, so that they are not all the same
_FULL = 0.95  # of the tokens asked for
_SEPARATOR = "\n\n"
_PARTS = ("beginning", "middle", "end")


def needle_set(
    judged: JudgedSet, count: Callable[[Sequence[str]], Sequence[int]], *, tokens: int, seed: int = 0
) -> JudgedSet:
    """A set of long documents: each answers its queries with one passage, and is about other things before and after.

    The idea is LongEmbed's needle in a haystack (arXiv 2404.12096), where embeddings have to find a short statement
    within long documents; as in MLDR (BGE-M3, arXiv 2402.03216) the question is about one passage of the text. Here
    statement and question are a judged set's own, so that results compare with those for the passages by themselves.

    Each passage that answers a query becomes a document: other passages, drawn at random, stand around it, and it is
    in a random place among them. None of these answers any query of the new set, so that nothing else is relevant. A
    set with too few such passages gives up passages that answer, drawn at random, together with their queries; half of
    the queries at most.

    Args:
        judged: a set of passages.
        count: the lengths of texts in tokens, `encoder.count_tokens` say.
        tokens: of each document, special ones included: 95 to 100 % of this, as far as passages are short enough. A
            passage that is longer is a document by itself.
        seed: of all that is drawn.

    Returns:
        The set, `"<name>-needle-<tokens>"`. Documents have their needle's id. Metadata is the needle's and the
        query's, with `depth`: a document's is the share of its tokens that come before the needle's middle; a query's
        is `"beginning"`, `"middle"` or `"end"`, the third that this falls into, if one document answers it.

    Raises:
        InvalidInput: no passage answers a query, or there are too few passages for so many tokens.
    """
    if tokens < 1:
        raise InvalidInput(f"documents have at least 1 token, not {tokens}")
    rng = np.random.default_rng(seed)
    special, *counted = count(["", *judged.corpus.texts])
    lengths = np.array(counted) - special
    kept = _kept_queries(judged, lengths, tokens, rng)
    answering = set().union(*kept.values())
    passages = judged.corpus
    needles = [i for i, passage in enumerate(passages.ids) if passage in answering]
    hay = np.array([i for i, passage in enumerate(passages.ids) if passage not in answering])
    documents = Passages([], [], [])
    depths: dict[str, float] = {}
    for needle in needles:
        drawn = _drawn(rng.permutation(hay), lengths, tokens - special - int(lengths[needle]), tokens)
        place = int(rng.integers(len(drawn) + 1))
        parts = [*drawn[:place], needle, *drawn[place:]]
        half = lengths[needle] / 2
        depth = float((lengths[drawn[:place]].sum() + half) / max(1, lengths[parts].sum()))
        depths[passages.ids[needle]] = depth
        documents.ids.append(passages.ids[needle])
        documents.texts.append(_SEPARATOR.join(passages.texts[i] for i in parts))
        documents.metadata.append({**passages.metadata[needle], "depth": round(depth, 3)})
    queries, qrels = Passages([], [], []), {}
    for identifier, text, metadata in zip(
        judged.queries.ids, judged.queries.texts, judged.queries.metadata, strict=True
    ):
        if identifier in kept:
            queries.ids.append(identifier)
            queries.texts.append(text)
            queries.metadata.append({**metadata, **_third(kept[identifier], depths)})
            qrels[identifier] = {p: judged.qrels[identifier][p] for p in sorted(kept[identifier])}
    return JudgedSet(f"{judged.name}-needle-{tokens}", documents, queries, qrels)


def _kept_queries(
    judged: JudgedSet, lengths: npt.NDArray[np.int64], tokens: int, rng: np.random.Generator
) -> dict[str, set[str]]:
    """The queries that keep the passages that answer them, with these. All other passages may stand around needles."""
    found = {q: {p for p, grade in judged.qrels[q].items() if grade > 0} for q in judged.queries.ids}
    kept = {query: passages for query, passages in found.items() if passages}
    if not kept:
        raise InvalidInput(f"{judged.name} has no query that a passage answers")
    length = dict(zip(judged.corpus.ids, lengths.tolist(), strict=True))
    total, half = sum(length.values()), len(kept) / 2
    for passage in rng.permutation(sorted(set().union(*kept.values()))).tolist():
        if total - sum(length[p] for p in set().union(*kept.values())) >= _HAYSTACKS * tokens:
            return kept
        kept = {query: passages for query, passages in kept.items() if passage not in passages}
        if len(kept) < half:
            break
    raise InvalidInput(
        f"{judged.name} has {total} tokens in {len(length)} passages, too few to make documents of {tokens} tokens "
        "from passages that answer no query and keep half of its queries; take fewer tokens"
    )


def _drawn(hay: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], room: int, tokens: int) -> list[int]:
    """Of these passages the first that fit together, each as the room is that the ones before it left."""
    drawn = []
    for i in hay.tolist():
        if room <= (1 - _FULL) * tokens:
            break
        if lengths[i] <= room:
            drawn.append(i)
            room -= int(lengths[i])
    return drawn


def _third(needles: set[str], depths: dict[str, float]) -> dict[str, str]:
    if len(needles) > 1:
        return {}
    (passage,) = needles
    return {"depth": _PARTS[min(2, int(3 * depths[passage]))]}
