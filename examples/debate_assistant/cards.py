"""Passages, explanations and outlines as HTML. What a user or a model wrote is escaped, so that it shows as text."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from assistant import Point
from langchain_core.documents import Document

from m3core.explaining import Highlight
from m3core.explaining.html import marked
from m3core.figures import bars


def card(document: Document, rank: int, words: Mapping[str, str]) -> str:
    """A passage: what contributes highlighted, and what each mode adds to its score."""
    metadata, scores = document.metadata, document.metadata["_m3_scores"]
    highlights = [Highlight(**one) for one in metadata["_m3_explanation"]["highlights"]]
    drawn = "".join(
        f"<span>{words[mode]}</span><span>{scores['scores'][mode]:.3f}</span>"
        f'<span class="bar {mode}" style="width:{length:.0%}"></span>'
        for mode, length in bars(scores["shares"]).items()
    )
    return (
        f'<article class="m3"><header><strong>{rank}. {scores["score"]:.3f}</strong> <code>{escape(str(document.id))}'
        f"</code> {escape(metadata['motion'])} {words.get(metadata['kind'], '')}</header>"
        f'<p class="text">{marked(document.page_content, highlights)}</p>'
        f'<div class="bars">{drawn}</div></article>'
    )


def reasons(document: Document, words: Mapping[str, str]) -> str:
    """Which tokens a passage was found by, of the modes that its score is of."""
    why = document.metadata["_m3_explanation"]
    matches = why["matches"] if why["shares"].get("sparse") else []
    pairs = sorted(why["alignments"] if why["shares"].get("multivector") else [], key=lambda pair: -pair["similarity"])
    pairs = [pair for pair in pairs if pair["query"].strip() and pair["passage"].strip()]
    lists = {
        "matches": ["{token} {query_weight:.2f} × {passage_weight:.2f} = {score:.3f}".format(**one) for one in matches],
        "aligned": ["{query} → {passage} {similarity:.2f}".format(**one) for one in pairs],
    }
    shown = (f"<p>{words[name]}</p><ul>{_items(map(escape, of[:8]))}</ul>" for name, of in lists.items() if of)
    return f'<div class="m3">{"".join(shown) or words["whole"]}</div>'


def outline(points: Mapping[str, Sequence[Point]], words: Mapping[str, str]) -> str:
    """A quoted outline, with the id of each quotation."""
    sides = (f"<h3>{words[side]}</h3><ol>{_points(of, words)}</ol>" for side, of in points.items())
    return f'<div class="m3">{"".join(sides)}</div>'


def plain(text: str) -> str:
    """What somebody wrote, as it is."""
    return f'<div class="m3"><p class="text">{escape(text)}</p></div>'


def _points(points: Sequence[Point], words: Mapping[str, str]) -> str:
    return _items(
        _quoted(one.sentence, one.passage)
        + (f"<br>{words['answered']}：{_quoted(one.answer, one.answered_by)}" if one.answer else "")
        for one in points
    )


def _quoted(sentence: str, passage: str) -> str:
    return f"{escape(sentence)} <code>[{escape(passage)}]</code>"


def _items(items: Any) -> str:
    return "".join(f"<li>{item}</li>" for item in items)
