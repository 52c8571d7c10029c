"""Answers with citations over the debate corpus, in LlamaIndex.

python examples/llama_index_rag.py                                    # offline: quotes what it found
python examples/llama_index_rag.py "谁来监督算法？" --side con
python examples/llama_index_rag.py --llm llama_index.llms.openai:OpenAI --llm-model gpt-5-mini
"""

import argparse
import asyncio
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from llama_index.core import Document
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.response_synthesizers import BaseSynthesizer
from quoting import quote

from llama_index.retrievers.m3 import M3Retriever
from m3core import M3Encoder
from m3core.records import read_records

CORPUS = Path(__file__).parent / "data" / "debate" / "corpus.jsonl"
QUESTIONS = ["人工智能会取代教师吗？", "Who carries the cost when a city charges for congestion?"]


class Quoting(BaseSynthesizer):
    """Answers with quotations, without a language model."""

    def __init__(self, encoder: M3Encoder) -> None:
        super().__init__(llm=MockLLM())
        self._encoder = encoder

    def get_response(self, query_str: str, text_chunks: Sequence[str], **_: Any) -> str:
        """Quotes the chunks."""
        return quote(self._encoder, query_str, text_chunks)

    async def aget_response(self, query_str: str, text_chunks: Sequence[str], **_: Any) -> str:
        """Quotes the chunks, in another thread."""
        return await asyncio.to_thread(quote, self._encoder, query_str, text_chunks)

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        pass


def build_engine(retriever: M3Retriever, encoder: M3Encoder, llm: LLM | None = None) -> BaseQueryEngine:
    """From a question to a response with `source_nodes`. Without a language model it is made of quotations."""
    if llm is not None:
        return CitationQueryEngine(retriever, llm=llm)
    return RetrieverQueryEngine(retriever, response_synthesizer=Quoting(encoder))


def read_documents() -> list[Document]:
    """The corpus; only the text of a passage is embedded and shown to a model, not its metadata."""
    documents = []
    for record in read_records(CORPUS):
        hidden = list(record.metadata)
        documents.append(
            Document(
                text=record.text,
                id_=record.id,
                metadata=dict(record.metadata),
                excluded_embed_metadata_keys=hidden,
                excluded_llm_metadata_keys=hidden,
            )
        )
    return documents


def main() -> None:
    """Answers the questions on the command line, or two of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("--model", default="m3-mini", help="the embedding model; BAAI/bge-m3 where there is a network")
    parser.add_argument("--side", choices=["pro", "con"], help="only arguments of this side")
    parser.add_argument("--llm", help="module:class of a LlamaIndex language model")
    parser.add_argument("--llm-model", help="its argument 'model'")
    options = parser.parse_args()
    llm = None
    if options.llm:
        module, _, name = options.llm.partition(":")
        llm = getattr(import_module(module), name)(**({"model": options.llm_model} if options.llm_model else {}))

    encoder = M3Encoder(options.model)
    retriever = M3Retriever.from_documents(
        read_documents(),
        encoder=encoder,
        similarity_top_k=3,
        filters={"side": options.side} if options.side else None,
        show_progress=True,
    )
    engine = build_engine(retriever, encoder, llm)
    for question in options.questions:
        response = engine.query(question)
        print(f"\n问：{question}\n{response}")
        for n, source in enumerate(response.source_nodes, start=1):
            about = source.node.metadata
            print(f"  [{n}] {source.node.ref_doc_id}: {about['motion']}, {about['side']}")


if __name__ == "__main__":
    main()
