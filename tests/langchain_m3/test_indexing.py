"""LangChain's indexing API over every kind of store."""

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from store_home import Home

from langchain_m3 import M3VectorStore
from m3core import M3Encoder


def documents(*texts: str, source: str = "book") -> list[Document]:
    return [Document(text, metadata={"source": source}) for text in texts]


async def run(asynchronous: bool, docs: list[Document], manager: InMemoryRecordManager, store: M3VectorStore, how: str):
    options = {"cleanup": how, "source_id_key": "source", "key_encoder": "sha256", "batch_size": 10}
    done = await aindex(docs, manager, store, **options) if asynchronous else index(docs, manager, store, **options)
    return done["num_added"], done["num_skipped"], done["num_deleted"]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("how", ["incremental", "full", "scoped_full"])
async def test_indexing_again(home: Home, mini: M3Encoder, how: str, asynchronous: bool) -> None:
    store = M3VectorStore(home.open(), mini, store_modes=["dense", "sparse"])
    manager = InMemoryRecordManager("test")
    manager.create_schema()

    first = [*documents("one", "two", "three"), *documents("four", source="paper")]
    assert await run(asynchronous, first, manager, store, how) == (4, 0, 0)
    assert await run(asynchronous, first, manager, store, how) == (0, 4, 0)
    changed = documents("one", "two, changed", "three")
    assert await run(asynchronous, changed, manager, store, how) == (1, 2, 2 if how == "full" else 1)
    held = {d.page_content for d in store.similarity_search("two", k=10)}
    assert held == {"one", "two, changed", "three"} | (set() if how == "full" else {"four"})
    assert await run(asynchronous, documents("one", "one"), manager, store, how) == (0, 2, 2)
