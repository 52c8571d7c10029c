"""Explanations as a page: no scripts, nothing from elsewhere, and every text escaped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from m3core.explaining.explanation import Explanation, Highlight
from m3core.figures import LOOKS, bars

_STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --quiet: #595959; --ground: #ffffff; --line: #d0d0d0;
  --bar: #0072b2; --least: .15; --most: .6 }
@media (prefers-color-scheme: dark) {
  :root { --text: #f2f2f2; --quiet: #b3b3b3; --ground: #16181d; --line: #44474d; --bar: #56b4e9; --least: .12;
    --most: .33 } }
body { margin: 2rem auto; max-width: 52rem; padding: 0 1rem; color: var(--text); background: var(--ground);
  font: 1rem/1.6 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif }
h1 { font-size: 1.3rem } h2 { font-size: 1.1rem; margin-top: 2.5rem } h3 { font-size: 1rem }
.passage { white-space: pre-wrap; overflow-wrap: anywhere; border-left: .25rem solid var(--line); padding-left: 1rem }
mark { color: inherit; border-radius: .15rem;
  background: rgb(255 196 0 / calc(var(--least) + var(--most) * var(--strength))) }
table { border-collapse: collapse; font-size: .9rem }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line) }
td.number { text-align: right; font-variant-numeric: tabular-nums } caption { text-align: left; color: var(--quiet) }
.bar { display: inline-block; height: .7rem; background: var(--bar) }
.tables { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: start } .quiet { color: var(--quiet) }
"""


@dataclass(frozen=True)
class Found:
    """What a page says of one query.

    Attributes:
        query: its text.
        explanations: of the passages that were found, the best first.
        names: of them; none are shown if there are none.
    """

    query: str
    explanations: Sequence[Explanation]
    names: Sequence[str] = ()


def page(*queries: Found) -> str:
    """A page about queries and the passages that were found for them."""
    title = escape(queries[0].query if queries else "")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body>{''.join(map(_section, queries))}</body></html>\n"
    )


def marked(text: str, highlights: Sequence[Highlight]) -> str:
    """A text with its highlights in `<mark>`, whose style has their `--strength`; all else is escaped."""
    parts, at = [], 0
    for highlight in highlights:
        shown = escape(text[highlight.start : highlight.end])
        parts += [
            escape(text[at : highlight.start]),
            f'<mark style="--strength:{highlight.strength:.2f}">{shown}</mark>',
        ]
        at = highlight.end
    return "".join([*parts, escape(text[at:])])


def _section(found: Found) -> str:
    names = found.names or [""] * len(found.explanations)
    return f"<h1>{escape(found.query)}</h1>\n" + "".join(
        _part(explanation, f"{rank}. {name}" if name else "")
        for rank, (explanation, name) in enumerate(zip(found.explanations, names, strict=True), start=1)
    )


def _part(explanation: Explanation, heading: str) -> str:
    lengths = bars(explanation.shares)
    modes = [
        (
            LOOKS[mode][0],
            f"{score:.3f} × {explanation.weights[mode]:g}",
            f"{share:.3f}",
            f'<span class="bar" style="width:{lengths[mode] * 8:.2f}rem"></span>',
        )
        for (mode, score), share in zip(explanation.scores.items(), explanation.shares.values(), strict=True)
    ]
    tables = [_table("modes", ("", "score × weight", "share", ""), modes)]
    if explanation.matches:
        matches = [
            (escape(match.token), f"{match.query_weight:.3f}", f"{match.passage_weight:.3f}", f"{match.score:.3f}")
            for match in explanation.matches
        ]
        tables.append(_table("shared tokens", ("token", "in the query", "in the passage", "product"), matches))
    if explanation.similarity is not None:
        aligned = [
            (_shown(explanation.query, one.query), _shown(explanation.passage, one.passage), f"{one.similarity:.3f}")
            for one in explanation.alignments
        ]
        tables.append(_table("multi-vector alignment", ("query", "passage", "similarity"), aligned))
    return (
        (f"<h2>{escape(heading)}</h2>\n" if heading else "")
        + f"<p><strong>{explanation.score:.3f}</strong> "
        + f'<span class="quiet">= {" + ".join(f"{share:.3f}" for share in explanation.shares.values())}</span></p>\n'
        + f'<div class="passage">{marked(explanation.passage, explanation.highlights())}</div>\n'
        + f'<div class="tables">{"".join(tables)}</div>\n'
    )


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>\n"


def _cell(value: str) -> str:
    number = value.replace(".", "", 1).lstrip("-").isdigit()
    return f'<td class="number">{value}</td>' if number else f"<td>{value}</td>"


def _shown(text: str, span: tuple[int, int]) -> str:
    start, end = span
    if start == len(text):
        return '<span class="quiet">end of the text</span>'
    return escape(text[start:end].strip()) or '<span class="quiet">start of a word</span>'
