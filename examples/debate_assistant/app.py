"""The debate assistant as a web page, in Chinese and English.

streamlit run examples/debate_assistant/app.py
M3_MODEL=BAAI/bge-m3 M3_QDRANT_URL=http://localhost:6333 streamlit run examples/debate_assistant/app.py
M3_CHAT_MODEL=openai:gpt-5-mini …   # any model of LangChain's init_chat_model writes the outlines
"""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cards
import streamlit as st
from assistant import FUSIONS, SIDES, Assistant, Way, unknown_citations, written
from files import TYPES, passages_of, text_of
from langchain_core.documents import Document

from m3core import M3Error

HERE = Path(__file__).parent
WORDS = json.loads((HERE / "words.json").read_text("utf-8"))
Words = Mapping[str, str]


@st.cache_resource(show_spinner=False)
def shared() -> Assistant:
    """The assistant of all sessions."""
    return Assistant(os.environ.get("M3_MODEL", "m3-mini"), os.environ.get("M3_QDRANT_URL"))


@st.cache_resource(show_spinner=False)
def chat_model() -> Any:
    """The chat model that the environment names, or `None`."""
    if not (name := os.environ.get("M3_CHAT_MODEL")):
        return None
    from langchain.chat_models import init_chat_model

    return init_chat_model(name)


def main() -> None:
    """The page."""
    st.set_page_config(page_title="辩论助手 · Debate assistant", layout="wide")
    st.html(HERE / "style.css")
    owner = st.session_state.setdefault("owner", uuid.uuid4().hex)
    with st.sidebar:
        words = WORDS[st.radio("语言 · Language", list(WORDS), horizontal=True)]
    st.title(words["title"])
    st.write(words["about"])
    with st.spinner(words["loading"]):
        assistant = shared()
    motion = st.selectbox(words["motion"], assistant.motions, None, placeholder=words["any"], key="motion")
    question = st.text_input(words["question"], key="question")
    with st.sidebar:
        sides, way = settings(assistant, words, owner, motion)
    add(assistant, words, motion, owner)
    if not (query := question.strip() or motion or ""):
        st.info(words["hint"])
        return
    try:
        found = {side: assistant.search(query, side, way) for side in sides}
        if st.button(words["outline"]):
            outline(assistant, words, query, found, way)
    except M3Error as error:  # a server that does not answer, say
        st.error(str(error))
        return
    for column, (side, documents) in zip(st.columns(len(sides)), found.items(), strict=True):
        with column:
            st.subheader(words[side])
            results(documents, words)


def settings(assistant: Assistant, words: Words, owner: str, motion: str | None) -> tuple[tuple[str, ...], Way]:
    """The sides to show, and how to search. What has a key outlives a change of language."""
    side = st.radio(words["sides"], ["both", *SIDES], format_func=words.get, horizontal=True, key="side")
    mode = st.radio(words["mode"], ["hybrid", *assistant.encoder.modes], format_func=words.get, key="mode")
    fusion, weights, rerank = "weighted sum", assistant.encoder.score_weights, True
    if mode == "hybrid":
        rerank = st.toggle(words["rerank"], value=True, key="rerank")
        fusion = st.selectbox(words["fusion"], list(FUSIONS), format_func=lambda one: words.get(one, one), key="fusion")
        if fusion == "weighted sum":
            dense, sparse, multivector = (
                st.slider(f"{words['weights']}: {words[one]}", 0.0, 1.0, weight, 0.05, key=one)
                for one, weight in zip(("dense", "sparse", "multivector"), weights, strict=True)
            )
            weights = (dense, sparse, multivector)
    count = st.slider(words["count"], 1, 10, 5, key="count")
    return SIDES if side == "both" else (side,), Way(owner, motion, count, mode, fusion, weights, rerank)


def add(assistant: Assistant, words: Words, motion: str | None, owner: str) -> None:
    """The form for a user's own passages."""
    with st.expander(words["add"]), st.form("add", clear_on_submit=True):
        pasted = st.text_area(words["paste"])
        uploads = st.file_uploader(words["files"], TYPES, accept_multiple_files=True)
        side = st.radio(words["sides"], SIDES, format_func=words.get, horizontal=True, key="own side")
        about = st.selectbox(words["own"], assistant.motions, index=assistant.motions.index(motion) if motion else 0)
        if not st.form_submit_button(words["submit"]):
            return
    texts = [part for part in pasted.split("\n\n") if part.strip()]
    for upload in uploads:
        try:
            texts.append(text_of(upload.name, upload))
        except ValueError as error:
            st.error(str(error))
    passages = [passage for text in texts for passage in passages_of(text)]
    if passages:
        st.success(words["added"].format(assistant.add(passages, side, about, owner)))
    else:
        st.warning(words["empty"])


def outline(assistant: Assistant, words: Words, query: str, found: dict[str, list[Document]], way: Way) -> None:
    """An outline: of a chat model's, its citations checked, or of quotations."""
    with st.container(border=True):
        model = chat_model()
        if model is None:
            st.write(words["quoted"])
            st.html(cards.outline(assistant.outline(found, way), words))
            return
        st.write(words["written"])
        documents = [document for of in found.values() for document in of]
        text, place = "", st.empty()
        for piece in written(model, query, documents):
            text += piece
            place.html(cards.plain(text))
        cited, unknown = unknown_citations(text, []), unknown_citations(text, documents)
        if unknown:
            st.error(f"{words['unknown']} {', '.join(unknown)}")
        else:
            st.write(words["checked"] if cited else words["uncited"])


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
