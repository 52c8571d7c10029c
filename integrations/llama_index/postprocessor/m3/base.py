"""`M3Rerank`: puts nodes that something else retrieved into the order of an M3 model."""

from typing import Any, ClassVar

from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher

from llama_index.embeddings.m3.component import M3Component
from m3core import InvalidInput, Mode
from m3core.reranking import best_passages

dispatcher = get_dispatcher(__name__)


class M3Rerank(M3Component, BaseNodePostprocessor):
    """Reranks nodes by a model of the M3 families: by MaxSim, by the hybrid score, or by any other of its modes.

    ```python
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.m3 import M3Rerank

    rerank = M3Rerank("m3-mini", top_n=1)                   # M3Rerank() is BAAI/bge-m3, by the hybrid score
    found = [TextNode(text="Tokyo is the capital of Japan."), TextNode(text="巴黎是法国的首都。")]
    rerank.postprocess_nodes([NodeWithScore(node=node) for node in found], query_str="法国首都在哪里？")

    M3Rerank("m3-mini", modes=["multivector"])              # MaxSim alone
    ```

    In a query engine: `index.as_query_engine(similarity_top_k=20, node_postprocessors=[M3Rerank(top_n=3)])`.

    All nodes are encoded in one call; with `cache=` those that it has seen cost nothing. Where nodes come out of
    `llama_index.vector_stores.m3.M3VectorStore`, the mode `"semantic_hybrid"` reranks with the multi-vectors that it
    has stored, and encodes nothing anew.
    """

    top_n: int = Field(default=2, ge=1, description="How many nodes to return.")
    modes: list[Mode] | None = Field(
        default=None, description="What to score by; None means all that the model has, which is the hybrid score."
    )
    weights: tuple[float, float, float] | None = Field(
        default=None, description="For (dense, sparse, multi-vector) in the hybrid score; None takes the model's own."
    )
    keep_retrieval_score: bool = Field(
        default=False, description="Whether to keep the score before as metadata['retrieval_score']."
    )

    _wanted: ClassVar[tuple[Mode, ...]] = ()

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's registries."""
        return "M3Rerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise InvalidInput("reranking needs the query: give query_str or query_bundle")
        started = ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=self.top_n, model_name=self.model_name)
        dispatcher.event(started)
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.model_name,
            EventPayload.QUERY_STR: query_bundle.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            best = self._best(nodes, query_bundle.query_str)
            event.on_end(payload={EventPayload.NODES: best})
        dispatcher.event(ReRankEndEvent(nodes=best))
        return best

    def _best(self, nodes: list[NodeWithScore], query: str) -> list[NodeWithScore]:
        if not nodes:
            return []
        texts = [found.node.get_content(metadata_mode=MetadataMode.EMBED) for found in nodes]
        best = best_passages(self.encoder, query, texts, most=self.top_n, modes=self.modes, weights=self.weights)
        return [self._scored(nodes[i], score) for i, score in best]

    def _scored(self, found: NodeWithScore, score: float) -> NodeWithScore:
        if not self.keep_retrieval_score:
            return NodeWithScore(node=found.node, score=score)
        metadata = {**found.node.metadata, "retrieval_score": found.score}
        return NodeWithScore(node=found.node.model_copy(update={"metadata": metadata}), score=score)
