import numpy as np
import pytest
from langchain_core.documents import Document
from pydantic import ValidationError

from langchain_m3 import M3Reranker
from m3core import InvalidInput, M3Encoder, UnsupportedMode

TEXTS = ["Bananas are yellow.", "Tokyo is the capital of Japan.", "巴黎是法国的首都。", "东京塔很高。"]
QUERY = "法国首都在哪里？"


def documents() -> list[Document]:
    return [Document(text, id=str(i), metadata={"n": i}) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, None),
        ({"modes": ["multivector"]}, (0, 0, 1)),
        ({"modes": ["dense"]}, (1, 0, 0)),
        ({"modes": ["dense", "multivector"], "weights": (1, 0, 2)}, (1, 0, 2)),
        ({"weights": (0, 1, 0)}, (0, 1, 0)),
    ],
)
async def test_it_orders_by_the_score(mini: M3Encoder, options: dict, weights: tuple | None) -> None:
    scores = mini.encode_queries([QUERY]).score(mini.encode_documents(TEXTS), weights=weights)[0]
    reranker = M3Reranker(model="m3-mini", top_n=None, **options)
    ranked = reranker.compress_documents(documents(), QUERY)
    assert [d.metadata["n"] for d in ranked] == np.argsort(-scores, kind="stable").tolist()
    assert [d.metadata["relevance_score"] for d in ranked] == pytest.approx(np.sort(scores)[::-1].tolist(), abs=1e-2)
    assert [d.id for d in ranked] == [str(d.metadata["n"]) for d in ranked]
    again = await reranker.acompress_documents(documents(), QUERY)
    assert [d.id for d in again] == [d.id for d in ranked]


def test_it_returns_copies_of_the_best(mini: M3Encoder) -> None:
    given = documents()
    ranked = M3Reranker.from_encoder(mini, top_n=1).compress_documents(given, QUERY)
    assert [d.page_content for d in ranked] == [TEXTS[2]]
    assert given == documents()
    assert len(M3Reranker(model="m3-mini").compress_documents(given, QUERY)) == 3
    assert M3Reranker(model="./no-such-model").compress_documents([], QUERY) == []


def test_bad_options_are_refused(m3e_dir: object) -> None:
    for bad in ({"top_n": 0}, {"modes": ["bm25"]}, {"weights": (1, 2)}, {"topn": 3}):
        with pytest.raises(ValidationError):
            M3Reranker(model="m3-mini", **bad)
    with pytest.raises(InvalidInput, match="count a mode that is not among dense"):
        M3Reranker(model="m3-mini", modes=["dense"], weights=(1, 1, 0)).compress_documents(documents(), QUERY)
    with pytest.raises(UnsupportedMode, match="no multivector"):
        M3Reranker(model=str(m3e_dir), modes=["multivector"]).compress_documents(documents(), QUERY)
