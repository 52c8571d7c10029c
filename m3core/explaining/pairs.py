"""`explain`: a query and a passage, looked at mode by mode."""

from collections.abc import Sequence

from m3core.encoder import M3Encoder
from m3core.errors import UnsupportedMode
from m3core.explaining.explanation import Explanation, Match, Span
from m3core.fusion import Weights, checked_weights
from m3core.output import MODES, M3Output
from m3core.scoring import mode_scores, shared_tokens
from m3core.tokenizer import Token


def explain(query: str, passage: str, encoder: M3Encoder, *, weights: Weights | None = None) -> Explanation:
    """Tells why a passage fits a query: what each mode gives, and which tokens that comes from.

    ```python
    why = explain("法国首都在哪里？", "巴黎是法国的首都。", M3Encoder("m3-mini"))
    why.score, why.shares                # the fused score, and what each mode adds to it
    [match.token for match in why.matches]
    Path("why.html").write_text(why.to_html(), "utf-8")
    ```

    Args:
        query: a text.
        passage: another.
        encoder: encodes both.
        weights: of (dense, sparse, multi-vector) in the sum; `None` means the model's own.

    Raises:
        InvalidInput: a text that is not a str or not valid Unicode, or not three weights.
        UnsupportedMode: a weight for a mode that the model does not have.
    """
    (found,) = explain_all(query, [passage], encoder, weights=weights)
    return found


def explain_all(
    query: str,
    passages: Sequence[str],
    encoder: M3Encoder,
    *,
    weights: Weights | None = None,
    encoded: M3Output | None = None,
) -> list[Explanation]:
    """`explain` for several passages, which are encoded together.

    Args:
        query: a text.
        passages: others.
        encoder: encodes all of them.
        weights: see `explain`.
        encoded: the query's representations, if they are there already, in the modes to explain; dense may be of other
            texts, as with HyDE.
    """
    asked = encoder.score_weights if weights is None else checked_weights(weights)
    weight = dict(zip(MODES, asked, strict=True))
    missing = [mode for mode in MODES if weight[mode] and mode not in encoder.modes]
    if weights is not None and missing:
        raise UnsupportedMode(
            f"a weight was given for {', '.join(missing)}, but the model has {', '.join(encoder.modes)}: set it to 0"
        )
    encoded = encoder.encode_queries([query]) if encoded is None else encoded
    found = encoder.encode_documents(passages, modes=encoded.modes)
    query = (encoder.fingerprint.instruction or "") + query
    tokens, *others = (encoder.tokenize(text, quiet=True) for text in (query, *passages))
    return [
        Explanation(
            query,
            passage,
            {mode: float(mode_scores(encoded, output, mode)[0, 0]) for mode in output.modes},
            {mode: weight[mode] for mode in output.modes},
            _matches(query, tokens, encoded, own, output),
            _spans(tokens, query),
            _spans(own, passage),
            None
            if encoded.multivector is None or output.multivector is None
            else encoded.multivector[0] @ output.multivector[0].T,
        )
        for passage, own, output in zip(passages, others, found, strict=True)
    ]


def _matches(
    query: str, tokens: Sequence[Token], encoded: M3Output, others: Sequence[Token], output: M3Output
) -> list[Match]:
    if encoded.sparse is None or output.sparse is None:
        return []
    (ours,), (theirs,) = encoded.sparse, output.sparse
    matches = []
    for token_id, of_query, of_passage in shared_tokens(ours, theirs):
        here = [token for token in tokens if token.id == token_id]
        spans = [(token.start, token.end) for token in here]
        there = [(token.start, token.end) for token in others if token.id == token_id]
        shown = query[slice(*spans[0])] or here[0].token
        matches.append(Match(shown, of_query, of_passage, spans, there))
    return sorted((match for match in matches if match.score > 0), key=lambda match: -match.score)


def _spans(tokens: Sequence[Token], text: str) -> list[Span]:
    return [*((token.start, token.end) for token in tokens), (len(text), len(text))]
