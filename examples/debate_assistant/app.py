"""The debate assistant as a web page, in Chinese and English: `streamlit run examples/debate_assistant/app.py`."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cards
import streamlit as st
from assistant import FUSIONS, SIDES, Assistant, Way, unknown_citations, written
from files import MOST_FILES, MOST_LETTERS, TYPES, passages_of, text_of
from langchain_core.documents import Document

from m3core import MODES

HERE = Path(__file__).parent
Words = dict[str, str]
WORDS = json.loads((HERE / "words.json").read_text("utf-8"))
shared = st.cache_resource(Assistant, show_spinner=False)  # by all sessions


@contextmanager
def failing(sentence: str) -> Iterator[None]:
    """Shows what goes wrong in it, and the page goes on after it. What the error says is foreign, and not Markdown."""
    try:
        yield
    except Exception as error:
        logging.exception(sentence)
        st.error(sentence)
        st.html(cards.plain(str(error) or type(error).__name__))


def main() -> None:
    """The page."""
    st.set_page_config(page_title="辩论助手 · Debate assistant", layout="wide")
    st.html(HERE / "style.css")
    words = WORDS[st.sidebar.radio("语言 · Language", list(WORDS), horizontal=True)]
    st.title(words["title"])
    st.write(words["about"])
    owner = st.session_state.setdefault("owner", os.urandom(16).hex())
    with failing(words["unusable"]):
        with st.spinner(words["loading"]):
            assistant = shared(os.environ.get("M3_MODEL", "m3-mini"), os.environ.get("M3_QDRANT_URL"))
        motion = st.selectbox(words["motion"], assistant.motions, None, placeholder=words["any"], key="motion")
        question = st.text_input(words["question"], key="question")
        with st.sidebar:
            sides, way = settings(assistant, words, owner, motion)
        add(assistant, words, motion, owner)
        if not (query := question.strip() or motion or ""):
            st.info(words["hint"])
            return
        found = {side: assistant.search(query, side, way) for side in sides}
        asked, above = st.button(words["outline"]), st.container()
        for column, (side, documents) in zip(st.columns(len(sides)), found.items(), strict=True):
            with column:
                st.subheader(words[side])
                results(documents, words)
        if asked:  # at last, so that the results are there whatever becomes of it
            with above.container(border=True):
                outline(assistant, words, query, found, way)


def settings(assistant: Assistant, words: Words, owner: str, motion: str | None) -> tuple[tuple[str, ...], Way]:
    """The sides to show, and how to search. What has a key outlives a change of language."""
    side = st.radio(words["sides"], ["both", *SIDES], format_func=words.get, horizontal=True, key="side")
    has, weights = assistant.encoder.modes, assistant.encoder.score_weights
    mode = st.radio(words["mode"], assistant.modes, format_func=words.get, key="mode")
    fusion, rerank = "weighted sum", "multivector" in has
    if "hybrid" in assistant.modes:
        off = mode != "hybrid"  # shown all the same, so that nothing is forgotten that was chosen
        rerank = rerank and st.toggle(words["rerank"], value=True, key="rerank", disabled=off)
        fusion = st.selectbox(words["fusion"], FUSIONS, format_func=words.get, key="fusion", disabled=off)
        used = [one for one in has if rerank or one != "multivector"] if fusion == "weighted sum" and not off else []
        weights = tuple(
            st.slider(f"{words['weights']}: {words[one]}", 0.0, 1.0, weight, key=one, disabled=one not in used)
            for one, weight in zip(MODES, weights, strict=True)
        )
    count = st.slider(words["count"], 1, 10, 5, key="count")
    return SIDES if side == "both" else (side,), Way(owner, motion, count, mode, fusion, weights, rerank)


def add(assistant: Assistant, words: Words, motion: str | None, owner: str) -> None:
    """The form for a user's own passages."""
    with st.expander(words["add"]):
        with st.form("add", clear_on_submit=True):
            st.write(words["kept"])
            pasted = st.text_area(words["paste"])
            uploads = st.file_uploader(words["files"], TYPES, accept_multiple_files=True)
            side = st.radio(words["sides"], SIDES, format_func=words.get, horizontal=True, key="own side")
            about = st.selectbox(words["own"], assistant.motions, assistant.motions.index(motion) if motion else 0)
            submitted = st.form_submit_button(words["submit"])
        if st.button(words["forget"]):
            assistant.forget(owner)
            st.success(words["forgotten"])
    if not submitted:
        return
    texts = pasted.split("\n\n")
    for upload in uploads[:MOST_FILES]:
        with failing(words["unreadable"]):
            texts.append(text_of(upload.name, upload))
    with failing(words["not added"]):
        if len(uploads) > MOST_FILES or sum(map(len, texts)) > MOST_LETTERS:
            st.error(words["too much"].format(MOST_FILES, MOST_LETTERS))
        elif passages := [passage for text in texts for passage in passages_of(text)]:
            st.success(words["added"].format(assistant.add(passages, side, about, owner)))
        else:
            st.warning(words["empty"])


def outline(assistant: Assistant, words: Words, query: str, found: dict[str, list[Document]], way: Way) -> None:
    """An outline: of a chat model's, its citations checked, or of quotations."""
    if not (name := os.environ.get("M3_CHAT_MODEL")):
        st.write(words["quoted"])
        st.html(cards.outline(assistant.outline(found, way), words))
        return
    st.write(words["written"])
    text, place = "", st.empty()
    documents = [document for of in found.values() for document in of]
    with failing(words["not written"]):
        from langchain.chat_models import init_chat_model

        for piece in written(init_chat_model(name), query, documents):
            text += piece
            place.html(cards.plain(text))
    if unknown := unknown_citations(text, documents):
        st.error(words["unknown"])
        st.html(cards.plain(", ".join(unknown)))
    elif text:
        st.write(words["checked" if unknown_citations(text, []) else "uncited"])


def results(documents: list[Document], words: Words) -> None:
    """Cards, each with its explanation."""
    if not documents:
        st.write(words["nothing"])
    for rank, document in enumerate(documents, start=1):
        with st.container(border=True):
            st.html(cards.card(document, rank, words))
            with st.expander(words["why"]):
                st.html(cards.reasons(document, words))


main()
