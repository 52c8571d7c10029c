"""`M3Rerank`: any nodes, in the order of a model's score."""

from pathlib import Path

import numpy as np
import pytest
from counting import counted_ticks
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from pydantic import ValidationError

from llama_index.postprocessor.m3 import M3Rerank
from m3core import InvalidInput, M3Encoder, UnsupportedMode

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow.", "东京塔很高，首都也在那里。"]
QUERY = "capital 首都"


@pytest.fixture
def found() -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(text=text, id_=str(i), metadata={"n": i, "hidden": "首都"}), score=0.1 * i)
        for i, text in enumerate(TEXTS)
    ]


def scores_of(mini: M3Encoder, nodes: list[NodeWithScore], modes=None) -> np.ndarray:
    texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
    documents = mini.encode_documents(texts, modes=modes)
    return mini.encode_queries([QUERY], modes=modes).score(documents, weights=None if modes is None else (0, 0, 1))[0]


async def test_it_orders_by_the_hybrid_score(found, mini, call) -> None:
    scores = scores_of(mini, found)
    order = [str(i) for i in np.argsort(-scores)]
    assert order != sorted(order)
    best = await call(M3Rerank("m3-mini", top_n=9), "postprocess_nodes", found, query_str=QUERY)
    assert [node.node_id for node in best] == order
    assert [node.score for node in best] == pytest.approx(np.sort(scores)[::-1].tolist(), abs=1e-5)
    best = await call(M3Rerank("m3-mini"), "postprocess_nodes", found, query_str=QUERY)
    assert [node.node_id for node in best] == order[:2]


async def test_it_scores_by_one_mode_gives_its_score_and_by_weights_their_sum(found, mini, call) -> None:
    maxsim = scores_of(mini, found, modes=["multivector"])
    rerank = M3Rerank("m3-mini", top_n=4, modes=["multivector"])
    best = await call(rerank, "postprocess_nodes", found, query_str=QUERY)
    assert [node.node_id for node in best] == [str(i) for i in np.argsort(-maxsim)]
    assert [node.score for node in best] == pytest.approx(np.sort(maxsim)[::-1].tolist(), abs=1e-5)
    weighted = M3Rerank("m3-mini", top_n=4, weights=(0, 0, 2))
    doubled = await call(weighted, "postprocess_nodes", found, query_str=QUERY)
    assert [node.score for node in doubled] == pytest.approx([2 * node.score for node in best], abs=1e-5)
    with pytest.raises(InvalidInput, match="count a mode"):
        await call(M3Rerank("m3-mini", modes=["dense"], weights=(1, 1, 0)), "postprocess_nodes", found, query_str=QUERY)


async def test_it_sees_what_llama_index_embeds(mini, call) -> None:
    nodes = [
        NodeWithScore(
            node=TextNode(text="同样的话", id_="hidden", metadata={"a": QUERY}, excluded_embed_metadata_keys=["a"])
        ),
        NodeWithScore(node=TextNode(text="同样的话", id_="seen", metadata={"a": QUERY})),
    ]
    best = await call(M3Rerank("m3-mini"), "postprocess_nodes", nodes, query_str=QUERY)
    assert [node.node_id for node in best] == ["seen", "hidden"]


async def test_it_changes_nothing_that_it_is_given(found, call) -> None:
    before = [node.model_copy(deep=True) for node in found]
    rerank = M3Rerank("m3-mini", top_n=4, keep_retrieval_score=True)
    best = await call(rerank, "postprocess_nodes", found, query_str=QUERY)
    assert found == before
    for node in best:
        old = before[int(node.node_id)]
        assert node.metadata == {**old.metadata, "retrieval_score": old.score}
        assert node.score != old.score
    plain = await call(M3Rerank("m3-mini", top_n=4), "postprocess_nodes", found, query_str=QUERY)
    assert [node.node for node in plain] == [before[int(node.node_id)].node for node in plain]


async def test_it_needs_a_query_but_no_nodes(found, call) -> None:
    assert await call(M3Rerank("m3-mini"), "postprocess_nodes", [], query_str=QUERY) == []
    with pytest.raises(InvalidInput, match="reranking needs the query"):
        await call(M3Rerank("m3-mini"), "postprocess_nodes", found)


@pytest.mark.filterwarnings("ignore::m3core.errors.UnknownTokensWarning")
def test_it_refuses_what_it_cannot_do(found, m3e_dir: Path) -> None:
    for wrong in ({"top_n": 0}, {"modes": ["colbert"]}, {"weights": (1, 2)}):
        with pytest.raises(ValidationError):
            M3Rerank("m3-mini", **wrong)
    dense_only = M3Rerank(str(m3e_dir), modes=["multivector"])
    with pytest.raises(UnsupportedMode, match="multivector"):
        dense_only.postprocess_nodes(found, query_str=QUERY)
    assert len(M3Rerank(str(m3e_dir)).postprocess_nodes(found, query_str=QUERY)) == 2


async def test_async_leaves_the_event_loop_free() -> None:
    nodes = [NodeWithScore(node=TextNode(text=text * 49)) for text in TEXTS]
    async with counted_ticks() as ticks:
        await M3Rerank("m3-mini").apostprocess_nodes(nodes, query_str=QUERY)
    assert ticks.count >= 5
