"""Answers with citations over the debate corpus, in LangChain.

python examples/langchain_rag.py                                  # offline: quotes what it found
python examples/langchain_rag.py "谁来监督算法？" --side con
python examples/langchain_rag.py --chat-model openai:gpt-5-mini   # any model of LangChain's init_chat_model
"""

import argparse
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel, RunnablePassthrough
from quoting import quote

from langchain_m3 import M3Retriever
from m3core import M3Encoder
from m3core.records import read_records

CORPUS = Path(__file__).parent / "data" / "debate" / "corpus.jsonl"
QUESTIONS = ["人工智能会取代教师吗？", "Who carries the cost when a city charges for congestion?"]
PROMPT = ChatPromptTemplate.from_template(
    "只根据下面的论据回答问题，用问题的语言，并在每句话后注明论据的编号，如[1]。论据不足时直说。\n\n{evidence}\n\n问题：{question}"
)


def build_chain(retriever: M3Retriever, chat_model: BaseChatModel | None = None) -> Runnable[str, dict[str, Any]]:
    """From a question to `{"question", "documents", "answer"}`. Without a chat model the answer is quotations."""
    if chat_model is None:
        answer: Runnable[Any, str] = RunnableLambda(
            lambda found: quote(retriever.encoder, found["question"], [d.page_content for d in found["documents"]])
        )
    else:
        answer = RunnablePassthrough.assign(evidence=numbered) | PROMPT | chat_model | StrOutputParser()
    return RunnableParallel(question=RunnablePassthrough(), documents=retriever).assign(answer=answer)


def numbered(found: dict[str, Any]) -> str:
    """The evidence as the prompt shows it."""
    return "\n".join(f"[{n}] {document.page_content}" for n, document in enumerate(found["documents"], start=1))


def main() -> None:
    """Answers the questions on the command line, or two of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("--model", default="m3-mini", help="the embedding model; BAAI/bge-m3 where there is a network")
    parser.add_argument("--side", choices=["pro", "con"], help="only arguments of this side")
    parser.add_argument("--chat-model", help="provider:name; needs the package langchain and the provider's")
    options = parser.parse_args()
    chat_model = None
    if options.chat_model:
        from langchain.chat_models import init_chat_model

        chat_model = init_chat_model(options.chat_model)

    documents = [Document(r.text, id=r.id, metadata=dict(r.metadata)) for r in read_records(CORPUS)]
    retriever = M3Retriever.from_documents(
        documents,
        encoder=M3Encoder(options.model),
        k=3,
        filter={"side": options.side} if options.side else None,
        show_progress=True,
    )
    chain = build_chain(retriever, chat_model)
    for question in options.questions:
        found = chain.invoke(question)
        print(f"\n问：{question}\n{found['answer']}")
        for n, document in enumerate(found["documents"], start=1):
            print(f"  [{n}] {document.id}: {document.metadata['motion']}, {document.metadata['side']}")


if __name__ == "__main__":
    main()
