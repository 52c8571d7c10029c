"""A conversation with citations over the debate corpus, in LangChain: filters, reranking, history, streaming.

python examples/langchain_rag.py                                  # offline: quotes what it found
python examples/langchain_rag.py "谁来监督算法？" --side con
python examples/langchain_rag.py --chat "人工智能会取代教师吗？" "那乡村学校呢？"      # the second follows the first
python examples/langchain_rag.py --chat-model openai:gpt-5-mini   # any model of LangChain's init_chat_model
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from quoting import quotes, standalone

from langchain_m3 import M3Reranker, M3Retriever
from m3core import M3Encoder
from m3core.records import read_records

CORPUS = Path(__file__).parent / "data" / "debate" / "corpus.jsonl"
QUESTIONS = ["人工智能会取代教师吗？", "Who carries the cost when a city charges for congestion?"]
REPHRASE = ChatPromptTemplate.from_template(
    "这是一段对话：\n{dialogue}\n\n把下面的追问改写成不看对话也能懂的一个问题，只输出这个问题：{question}"
)
ANSWER = ChatPromptTemplate.from_template(
    "只根据下面的论据回答问题，用问题的语言，并在每句话后注明论据的编号，如[1]。论据不足时直说。\n\n{evidence}\n\n问题：{query}"
)


def build_chain(
    retriever: M3Retriever, reranker: M3Reranker, chat_model: BaseChatModel | None = None
) -> Runnable[dict[str, Any], dict[str, Any]]:
    """From `{"question", "history"}` to that with `query`, `documents` and `answer`, which `stream` gives in pieces.

    Without a chat model the answer is quotations, and a question that follows another is searched for with it.
    """

    def rephrase(asked: dict[str, Any]) -> str | Runnable[Any, str]:
        if chat_model is None or not asked["history"]:
            return standalone(asked["question"], asked["history"])
        return RunnablePassthrough.assign(dialogue=dialogue) | REPHRASE | chat_model | StrOutputParser()

    def evidence(found: dict[str, Any]) -> str:
        return "\n".join(f"[{n}] {document.page_content}" for n, document in enumerate(found["documents"], start=1))

    def quoted(found: dict[str, Any]) -> Iterator[str]:
        yield from quotes(retriever.encoder, found["query"], [d.page_content for d in found["documents"]])

    answer: Runnable[Any, str] = RunnableLambda(quoted)
    if chat_model is not None:
        answer = RunnablePassthrough.assign(evidence=evidence) | ANSWER | chat_model | StrOutputParser()
    retrieved = RunnableLambda(lambda asked: asked["query"]) | retriever
    best = RunnableLambda(lambda found: reranker.compress_documents(found["documents"], found["query"]))
    return (
        RunnablePassthrough.assign(query=rephrase)
        | RunnablePassthrough.assign(documents=retrieved)
        | RunnablePassthrough.assign(documents=best)
        | RunnablePassthrough.assign(answer=answer)
    )


def dialogue(asked: dict[str, Any]) -> str:
    """The history as a prompt shows it."""
    return "\n".join(f"问：{question}\n答：{answer}" for question, answer in asked["history"])


def ask(chain: Runnable[dict[str, Any], dict[str, Any]], question: str, history: list[tuple[str, str]]) -> str:
    """Prints an answer as it comes, and then its sources. Returns the answer."""
    print(f"\n问：{question}")
    answer, documents = "", []
    for part in chain.stream({"question": question, "history": history}):
        documents = part.get("documents", documents)
        answer += part.get("answer", "")
        print(part.get("answer", ""), end="", flush=True)
    print()
    for n, document in enumerate(documents, start=1):
        print(f"  [{n}] {document.id}: {document.metadata['motion']}, {document.metadata['side']}")
    return answer


def main() -> None:
    """Answers the questions on the command line, or two of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("--model", default="m3-mini", help="the embedding model; BAAI/bge-m3 where there is a network")
    parser.add_argument("--side", choices=["pro", "con"], help="only arguments of this side")
    parser.add_argument("--chat", action="store_true", help="each question follows the one before")
    parser.add_argument("--chat-model", help="provider:name; needs the package langchain and the provider's")
    options = parser.parse_args()
    chat_model = None
    if options.chat_model:
        from langchain.chat_models import init_chat_model

        chat_model = init_chat_model(options.chat_model)

    encoder = M3Encoder(options.model)
    retriever = M3Retriever.from_documents(
        [Document(r.text, id=r.id, metadata=dict(r.metadata)) for r in read_records(CORPUS)],
        encoder=encoder,
        k=12,
        store_modes=["dense", "sparse"],  # the small ones; the reranker adds the multi-vectors
        filter={"side": options.side} if options.side else None,
        show_progress=True,
    )
    chain = build_chain(retriever, M3Reranker.from_encoder(encoder, top_n=3), chat_model)
    history: list[tuple[str, str]] = []
    for question in options.questions:
        answer = ask(chain, question, history if options.chat else [])
        history.append((question, answer))


if __name__ == "__main__":
    main()
