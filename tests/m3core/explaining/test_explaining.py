import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3core import InvalidInput, M3Encoder, UnsupportedMode, explain
from m3core.explaining import Explanation, explain_all

TEXTS = st.text(
    st.sampled_from("abe的一中国人说了theof 　\n１２ＡＰＩ．😀👩‍🔬é①Ⅷ<&>\"'\x01\x1b\x7f\u0301"), max_size=40
)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Page(HTMLParser):
    """What a page says in its passages, and what tags it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.passages: list[str] = []
        self.open: list[bool] = []  # whether each open div is a passage
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attributes)
        if tag == "div":
            self.open.append(("class", "passage") in attributes)
            self.passages += [""] * self.open[-1]

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1]:
            self.passages[-1] += data


def check(why: Explanation, encoder: M3Encoder) -> None:
    """That an explanation adds up, and points at tokens."""
    query, passage = encoder.encode_queries([why.query]), encoder.encode_documents([why.passage])
    assert why.score == pytest.approx(float(query.score(passage)[0, 0]), abs=1e-5)
    assert sum(why.shares.values()) == pytest.approx(why.score, abs=1e-9)
    assert sum(match.score for match in why.matches) == pytest.approx(why.scores["sparse"], abs=1e-5)
    similarities = [aligned.similarity for aligned in why.alignments]
    assert np.mean(similarities) == pytest.approx(why.scores["multivector"], abs=1e-5)
    tokens = [(token.start, token.end) for token in encoder.tokenize(why.passage)]
    assert why.passage_spans == [*tokens, (len(why.passage), len(why.passage))]
    assert all(set(match.passage_spans) <= set(tokens) for match in why.matches)
    assert all(aligned.passage in why.passage_spans for aligned in why.alignments)
    expected = {at: value for at in range(len(why.passage)) if (value := added(why, at)) > 1e-12}
    shown = {at: one.strength for one in why.highlights() for at in range(one.start, one.end)}
    assert shown.keys() == expected.keys()
    most = max(expected.values(), default=1.0)
    assert all(shown[at] == pytest.approx(expected[at] / most) for at in shown)


def added(why: Explanation, at: int) -> float:
    """What the tokens that a character belongs to add to the score."""

    def holds(span: tuple[int, int]) -> bool:
        return span[0] <= at < span[1]

    lexical = [match.score for match in why.matches if any(map(holds, match.passage_spans))]
    aligned = [one.similarity for one in why.alignments if holds(one.passage)]
    return why.weights["sparse"] * max(lexical, default=0.0) + why.weights["multivector"] * sum(aligned) / len(
        why.query_spans
    )


@FEW
@given(query=TEXTS, passage=TEXTS)
@pytest.mark.filterwarnings("ignore::m3core.errors.UnknownTokensWarning")
def test_it_adds_up_with_a_random_model(tiny_m3: M3Encoder, query: str, passage: str) -> None:
    check(explain(query, passage, tiny_m3), tiny_m3)


@FEW
@given(query=TEXTS, passage=TEXTS)
@pytest.mark.filterwarnings("ignore::m3core.errors.UnknownTokensWarning")
def test_it_adds_up_with_the_bundled_model(mini: M3Encoder, query: str, passage: str) -> None:
    why = explain(query, passage, mini)
    check(why, mini)
    page = Page(why.to_html())
    assert page.passages == [passage]
    assert "script" not in page.tags
    assert json.loads(json.dumps(why.as_dict()))["score"] == why.score


def test_a_shared_word_is_found_where_it_stands(mini: M3Encoder) -> None:
    why = explain("法国首都在哪里？", "巴黎是法国的首都，法国很大。", mini)
    first = why.matches[0]
    assert {match.token for match in why.matches[:2]} == {"法国", "首都"}
    assert first.score == first.query_weight * first.passage_weight
    places = {match.token: [why.passage[start:end] for start, end in match.passage_spans] for match in why.matches}
    assert places["法国"] == ["法国", "法国"]
    aligned = {why.query[slice(*one.query)]: why.passage[slice(*one.passage)] for one in why.alignments}
    assert aligned["首都"] == "首都"
    lexical = {why.passage[one.start : one.end] for one in why.highlights("sparse")}
    assert {"法国", "首都"} <= lexical
    assert max(why.highlights(), key=lambda one: one.strength).strength == 1


@pytest.mark.filterwarnings("ignore::m3core.errors.TruncationWarning")
def test_warnings_of_other_threads_are_left_alone(mini: M3Encoder) -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        reasons = list(pool.map(lambda n: explain("法国", f"法国{n}" * 900, mini), range(12)))
    assert warnings.filters == before
    assert all(why.passage_spans[-2][1] < len(why.passage) for why in reasons)  # cut, as it was encoded


def test_a_query_may_be_encoded_already(mini: M3Encoder) -> None:
    encoded, other = mini.encode_queries(["法国首都"]), mini.encode_queries(["东京"])
    (why,) = explain_all("法国首都", ["东京是日本的首都。"], mini, encoded=replace(encoded, dense=other.dense))
    for mode, asked in (("dense", "东京"), ("sparse", "法国首都"), ("multivector", "法国首都")):
        assert why.scores[mode] == pytest.approx(explain(asked, why.passage, mini).scores[mode], abs=5e-3)
    (why,) = explain_all("法国首都", ["法国很大。"], mini, encoded=mini.encode_queries(["法国首都"], modes=["sparse"]))
    assert why.shares.keys() == {"sparse"}
    assert why.highlights()


def test_several_passages_and_own_weights(mini: M3Encoder) -> None:
    query, passages = "Who pays for congestion?", ["Drivers pay for congestion.", "堵车费由司机支付。"]
    found = explain_all(query, passages, mini, weights=(1.0, 0.0, 0.25))
    expected = mini.encode_queries([query]).score(mini.encode_documents(passages), weights=(1.0, 0.0, 0.25))[0]
    assert [why.score for why in found] == pytest.approx(expected.tolist(), abs=1e-5)
    assert found[0].shares["sparse"] == 0
    assert found[0].scores["sparse"] > 0
    assert found[1].matches == []
    assert explain_all(query, [], mini) == []


@pytest.mark.filterwarnings("ignore::m3core.errors.UnknownTokensWarning")
def test_an_instruction_is_part_of_the_query(m3_dir: object) -> None:
    with M3Encoder(str(m3_dir), dtype="float32", device="cpu", instruction="中国人说: ") as encoder:
        why = explain("the one", "the two", encoder)
        assert why.query == "中国人说: the one"
        score = encoder.encode_queries(["the one"]).score(encoder.encode_documents(["the two"]))[0, 0]
        assert why.score == pytest.approx(float(score), abs=1e-5)


def test_a_dense_model_has_one_share(m3e_dir: object) -> None:
    with M3Encoder(str(m3e_dir), device="cpu") as encoder:
        why = explain("the one", "the two", encoder)
        assert why.shares.keys() == {"dense"}
        assert (why.matches, why.alignments, why.highlights(), why.similarity) == ([], [], [], None)
        assert Page(why.to_html()).passages == ["the two"]
        with pytest.raises(UnsupportedMode, match="a weight was given for sparse, but the model has dense"):
            explain("the one", "the two", encoder, weights=(1.0, 0.5, 0.0))
        for weights in ((1.0, 0.5), (float("nan"), 0.0, 0.0)):
            with pytest.raises(InvalidInput, match="weights are three"):
                explain("the one", "the two", encoder, weights=weights)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::m3core.errors.UnknownTokensWarning")
def test_a_hostile_passage_is_text(mini: M3Encoder) -> None:
    hostile = '<script>alert("1")</script> <img src=x onerror=alert(1)> </div><b>首都</b> & "法国"'
    page = Page(explain(f"法国首都 {hostile}", hostile, mini).to_html())
    assert page.passages == [hostile]
    assert not {"script", "img", "b"} & set(page.tags)
