"""A conversation with citations over the debate corpus, in LlamaIndex: filters, reranking, history, streaming.

python examples/llama_index_rag.py                                    # offline: quotes what it found
python examples/llama_index_rag.py "谁来监督算法？" --side con
python examples/llama_index_rag.py --chat "人工智能会取代教师吗？" "那乡村学校呢？"     # the second follows the first
python examples/llama_index_rag.py --llm llama_index.llms.openai:OpenAI --llm-model gpt-5-mini
"""

import argparse
import asyncio
from collections.abc import Generator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from llama_index.core import Document, PromptTemplate, StorageContext, VectorStoreIndex
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.query_engine.citation_query_engine import CITATION_QA_TEMPLATE, CITATION_REFINE_TEMPLATE
from llama_index.core.response_synthesizers import BaseSynthesizer, get_response_synthesizer
from llama_index.core.vector_stores import MetadataFilters
from quoting import quotes, standalone

from llama_index.embeddings.m3 import M3Embedding
from llama_index.postprocessor.m3 import M3Rerank
from llama_index.vector_stores.m3 import M3VectorStore
from m3core import M3Encoder
from m3core.records import read_records
from m3stores import QdrantStore

CORPUS = Path(__file__).parent / "data" / "debate" / "corpus.jsonl"
QUESTIONS = ["人工智能会取代教师吗？", "Who carries the cost when a city charges for congestion?"]
REPHRASE = PromptTemplate(
    "这是一段对话：\n{dialogue}\n\n把下面的追问改写成不看对话也能懂的一个问题，只输出这个问题：{question}"
)


class Quoting(BaseSynthesizer):
    """Answers with quotations, without a language model."""

    def __init__(self, encoder: M3Encoder) -> None:
        super().__init__(llm=MockLLM(), streaming=True)
        self._encoder = encoder

    def get_response(self, query_str: str, text_chunks: Sequence[str], **_: Any) -> Generator[str, None, None]:
        """Quotes the chunks, one by one."""
        yield from quotes(self._encoder, query_str, text_chunks)

    async def aget_response(self, query_str: str, text_chunks: Sequence[str], **_: Any) -> str:
        """Quotes the chunks, in another thread."""
        return await asyncio.to_thread(lambda: "".join(quotes(self._encoder, query_str, text_chunks)))

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        pass


def build_engine(
    index: VectorStoreIndex, embed_model: M3Embedding, *, side: str | None = None, llm: LLM | None = None
) -> BaseQueryEngine:
    """From a question to a streamed response with `source_nodes`. Without a language model it is made of quotations."""
    retriever = index.as_retriever(
        vector_store_query_mode="hybrid",
        similarity_top_k=12,
        filters=MetadataFilters.from_dicts([{"key": "side", "value": side}]) if side else None,
    )
    postprocessors = [M3Rerank.from_encoder(embed_model.encoder, top_n=3)]
    if llm is None:
        return RetrieverQueryEngine(
            retriever, response_synthesizer=Quoting(embed_model.encoder), node_postprocessors=postprocessors
        )
    synthesizer = get_response_synthesizer(
        llm=llm, text_qa_template=CITATION_QA_TEMPLATE, refine_template=CITATION_REFINE_TEMPLATE, streaming=True
    )
    return CitationQueryEngine(retriever, llm=llm, response_synthesizer=synthesizer, node_postprocessors=postprocessors)


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


def rephrased(question: str, history: Sequence[tuple[str, str]], llm: LLM | None) -> str:
    """A question that can be understood without the conversation that it is part of."""
    if llm is None or not history:
        return standalone(question, history)
    dialogue = "\n".join(f"问：{asked}\n答：{answer}" for asked, answer in history)
    return llm.predict(REPHRASE, dialogue=dialogue, question=question)


def ask(engine: BaseQueryEngine, question: str, history: Sequence[tuple[str, str]], llm: LLM | None) -> str:
    """Prints an answer as it comes, and then its sources. Returns the answer."""
    print(f"\n问：{question}")
    response = engine.query(rephrased(question, history, llm))
    answer = ""
    for part in response.response_gen:
        answer += part
        print(part, end="", flush=True)
    print()
    for n, source in enumerate(response.source_nodes, start=1):
        about = source.node.metadata
        print(f"  [{n}] {source.node.ref_doc_id}: {about['motion']}, {about['side']}")
    return answer


def main() -> None:
    """Answers the questions on the command line, or two of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("--model", default="m3-mini", help="the embedding model; BAAI/bge-m3 where there is a network")
    parser.add_argument("--side", choices=["pro", "con"], help="only arguments of this side")
    parser.add_argument("--chat", action="store_true", help="each question follows the one before")
    parser.add_argument("--llm", help="module:class of a LlamaIndex language model")
    parser.add_argument("--llm-model", help="its argument 'model'")
    options = parser.parse_args()
    llm = None
    if options.llm:
        module, _, name = options.llm.partition(":")
        llm = getattr(import_module(module), name)(**({"model": options.llm_model} if options.llm_model else {}))

    embed_model = M3Embedding(options.model)
    vector_store = M3VectorStore(QdrantStore("debate"), embed_model, store_modes=["dense", "sparse"])
    index = VectorStoreIndex.from_documents(
        read_documents(),
        storage_context=StorageContext.from_defaults(vector_store=vector_store),
        embed_model=embed_model,
        show_progress=True,
    )
    engine = build_engine(index, embed_model, side=options.side, llm=llm)
    history: list[tuple[str, str]] = []
    for question in options.questions:
        answer = ask(engine, question, history if options.chat else [], llm)
        history.append((question, answer))


if __name__ == "__main__":
    main()
