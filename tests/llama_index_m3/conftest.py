"""Vector stores over every kind of collection, and one name for both twins of each operation."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from store_home import Home
from store_kinds import Kind, Open, unique_name

from llama_index.embeddings.m3 import M3Embedding
from llama_index.vector_stores.m3 import M3VectorStore

Call = Callable[..., Awaitable[Any]]

_PLACES = [
    ("巴黎是法国的首都，塞纳河从城中流过。", "fr", 1, ["city", "zh"]),
    ("Paris is the capital of France, and the Seine flows through it.", "fr", 2, ["city", "en"]),
    ("Tokyo is the capital of Japan.", "jp", 3, ["city"]),
    ("东京塔很高，夜里亮着灯。", "jp", 4, ["tower", "zh"]),
    ("Bananas are yellow and sweet.", "none", 5, ["fruit", "en"]),
    ("香蕉是一种黄色的水果。", "none", 6, ["fruit", "zh"]),
    ("Mount Fuji is the highest mountain of Japan.", "jp", 7, ["mountain"]),
    ("法国的葡萄酒很有名。", "fr", 8, []),
]


@pytest.fixture(scope="session")
def embed_model() -> M3Embedding:
    """One with an encoder that no other test folder shares."""
    return M3Embedding("m3-mini", max_length=498)


@pytest.fixture(scope="session")
def other_model() -> M3Embedding:
    """The same model with other settings."""
    return M3Embedding("m3-mini", max_length=123)


@pytest.fixture(scope="session", autouse=True)
def kept() -> M3Embedding:
    """Keeps the encoder of `"m3-mini"` for all components with no other settings, which would else load it anew."""
    return M3Embedding("m3-mini")


@pytest.fixture(scope="session")
def corpus() -> list[TextNode]:
    """Two nodes of each of four documents; some lack the number `odd`, and one has no tags. Do not change them."""
    return [
        TextNode(
            text=text,
            id_=f"node {n}",
            metadata={"country": country, "n": n, "tags": tags} | ({"odd": n / 2} if n % 2 else {}),
            excluded_embed_metadata_keys=["n", "tags", "odd"],
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc {(n + 1) // 2}")},
        )
        for text, country, n, tags in _PLACES
    ]


@pytest.fixture
def vector_store(home: Home, embed_model: M3Embedding) -> M3VectorStore:
    """Over a collection that is not there yet."""
    return M3VectorStore(home.open(), embed_model)


@pytest.fixture(scope="session")
def filled(place: tuple[Kind, Open], embed_model: M3Embedding, corpus: list[TextNode]) -> Iterator[M3VectorStore]:
    """With the corpus. Do not change it."""
    kind, opens = place
    with opens(unique_name()) as store:
        vector_store = M3VectorStore(store, embed_model)
        vector_store.add(corpus)
        yield vector_store
        if kind.lasting:
            store.drop()


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Calls an operation by its name, or awaits its twin."""

    async def called(component: object, operation: str, *arguments: Any, **options: Any) -> Any:
        if request.param == "sync":
            return getattr(component, operation)(*arguments, **options)
        twin = "async_add" if operation == "add" else f"a{operation}"
        return await getattr(component, twin)(*arguments, **options)

    return called
