"""What LlamaIndex's observers see: each event once for each call, sync and async."""

from collections import Counter

import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.schema import NodeWithScore, TextNode

from llama_index.embeddings.m3 import M3Embedding
from llama_index.postprocessor.m3 import M3Rerank
from llama_index.retrievers.m3 import M3Retriever
from llama_index.sparse_embeddings.m3 import M3SparseEmbedding
from llama_index.vector_stores.m3 import M3VectorStore
from m3stores import QdrantStore

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow."]
NODES = [NodeWithScore(node=TextNode(text=text, id_=str(i)), score=1.0) for i, text in enumerate(TEXTS)]
SECRET = "hf_" + "s3cret" * 4


@pytest.fixture
def events() -> list[BaseEvent]:
    seen: list[BaseEvent] = []

    class Seeing(BaseEventHandler):
        def handle(self, event: BaseEvent, **more: object) -> None:
            seen.append(event)

    root = get_dispatcher()
    handler = Seeing()
    root.add_event_handler(handler)
    yield seen
    root.event_handlers.remove(handler)


def names(events: list[BaseEvent]) -> list[str]:
    return [event.class_name() for event in events]


@pytest.mark.parametrize(("kind", "name"), [(M3Embedding, "Embedding"), (M3SparseEmbedding, "SparseEmbedding")])
async def test_embedding_events(events, call, kind, name) -> None:
    component = kind("m3-mini", token=SECRET)
    for operation, argument, chunks in (
        ("get_text_embedding", TEXTS[0], TEXTS[:1]),
        ("get_query_embedding", TEXTS[1], TEXTS[1:2]),
        ("get_text_embedding_batch", TEXTS, TEXTS),
    ):
        events.clear()
        result = await call(component, operation, argument)
        assert names(events) == [f"{name}StartEvent", f"{name}EndEvent"]
        start, end = events
        assert start.model_dict["model_name"] == "m3-mini"
        assert SECRET not in str(start.model_dict)
        assert end.chunks == chunks
        assert end.embeddings == (result if operation.endswith("batch") else [result])


async def test_rerank_events(events, call) -> None:
    rerank = M3Rerank("m3-mini", top_n=1, token=SECRET)
    best = await call(rerank, "postprocess_nodes", NODES, query_str="首都")
    assert names(events) == ["ReRankStartEvent", "ReRankEndEvent"]
    start, end = events
    assert (start.query.query_str, start.nodes, start.top_n, start.model_name) == ("首都", NODES, 1, "m3-mini")
    assert end.nodes == best
    assert SECRET not in start.model_dump_json() + end.model_dump_json()


async def test_retrieval_events_of_an_index(events, call, embed_model) -> None:
    context = StorageContext.from_defaults(vector_store=M3VectorStore(QdrantStore("documents"), embed_model))
    index = VectorStoreIndex.from_documents(
        [Document(text=text) for text in TEXTS], storage_context=context, embed_model=embed_model
    )
    for mode, embeddings in (("hybrid", 1), ("sparse", 0)):
        events.clear()
        found = await call(index.as_retriever(vector_store_query_mode=mode), "retrieve", "首都")
        expected = {"RetrievalStartEvent": 1, "RetrievalEndEvent": 1}
        expected |= {"EmbeddingStartEvent": 1, "EmbeddingEndEvent": 1} if embeddings else {}
        assert Counter(names(events)) == expected
        assert names(events)[0] == "RetrievalStartEvent"
        assert events[-1].nodes == found


async def test_retrieval_events_of_our_retriever(events, call, embed_model) -> None:
    documents = [Document(text=text) for text in TEXTS]
    retriever = M3Retriever.from_documents(documents, encoder=embed_model, transformations=[])
    events.clear()
    found = await call(retriever, "retrieve", "首都")
    assert names(events) == ["RetrievalStartEvent", "RetrievalEndEvent"]
    assert events[0].str_or_query_bundle == "首都"
    assert events[1].nodes == found


async def test_callback_events(call) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    embed_model = M3Embedding("m3-mini", callback_manager=CallbackManager([debug]))
    result = await call(embed_model, "get_text_embedding_batch", TEXTS)
    ((start, end),) = debug.get_event_pairs(CBEventType.EMBEDDING)
    assert end.payload[EventPayload.CHUNKS] == TEXTS
    assert end.payload[EventPayload.EMBEDDINGS] == result

    debug = LlamaDebugHandler(print_trace_on_end=False)
    rerank = M3Rerank("m3-mini", top_n=1, callback_manager=CallbackManager([debug]))
    best = await call(rerank, "postprocess_nodes", NODES, query_str="首都")
    ((start, end),) = debug.get_event_pairs(CBEventType.RERANKING)
    assert start.payload == {
        EventPayload.NODES: NODES,
        EventPayload.MODEL_NAME: "m3-mini",
        EventPayload.QUERY_STR: "首都",
        EventPayload.TOP_K: 1,
    }
    assert end.payload == {EventPayload.NODES: best}
