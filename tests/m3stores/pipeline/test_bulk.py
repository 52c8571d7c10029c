"""A source that is put into a collection on a Qdrant server as a bulk load. Through the stand-in."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

from qdrant_standin import RestServer

from m3core import M3Encoder
from m3stores import QdrantStore
from m3stores.pipeline import index


@pytest.fixture
def server() -> Iterator[RestServer]:
    with RestServer(openapi=os.environ.get("M3_QDRANT_OPENAPI")) as rest:
        yield rest
        assert rest.violations == []


@pytest.mark.parametrize("ray", [None, pytest.param("local", marks=pytest.mark.slow)])
def test_the_graph_comes_when_all_is_there(server: RestServer, m3_dir: Path, ray: str | None) -> None:
    if ray is not None:
        pytest.importorskip("ray")
    encoder = M3Encoder(m3_dir, dtype="float32", device="cpu", engine="torch")
    source = [{"id": f"r{i}", "text": f"the one {i}"} for i in range(300)]
    seen = []
    with QdrantStore("docs", url=server.url) as store:
        with store.bulk_load():
            summary = index(source, encoder, store, exact=True, ray=ray, batch_size=60)
            seen.append(server.backend["docs"].config["params"]["vectors"]["dense"]["hnsw_config"]["m"])
        seen.append(server.backend["docs"].config["params"]["vectors"]["dense"]["hnsw_config"]["m"])
        assert (summary.added, seen) == (300, [0, 16])
        source = [*source[:10], *({"id": f"r{i}", "text": "new"} for i in range(290, 320))]
        with store.bulk_load():
            summary = index(source, encoder, store, exact=True, ray=ray, sync=True)
        assert (summary.encoded, summary.added, summary.removed, store.count()) == (30, 20, 280, 40)
