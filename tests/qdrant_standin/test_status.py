"""What the stand-in says of a collection's status, and how its settings and aliases change, asked in all four ways."""

from collections.abc import Iterator

import pytest

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

from qdrant_client import models as m

from qdrant_standin import RestServer, RpcServer
from qdrant_standin.asking import KINDS, Ask, asking, both_servers, refusal


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RestServer, RpcServer]]:
    with both_servers() as servers:
        yield servers


@pytest.fixture(params=KINDS)
def ask(request: pytest.FixtureRequest, servers: tuple[RestServer, RpcServer]) -> Iterator[Ask]:
    with asking(request.param, *servers) as asked:
        asked.create_collection("c", {"v": m.VectorParams(size=2, distance=m.Distance.DOT)}, metadata={"a": 1, "b": {}})
        yield asked
        asked.delete_collection("c")


def test_reports_come_in_order_and_grey_lasts(ask: Ask, servers: tuple[RestServer, RpcServer]) -> None:
    def said() -> tuple[str, str | None]:
        info = ask.get_collection("c")
        return info.status.value, getattr(info.optimizer_status, "error", None)

    assert said() == ("green", None)
    failed = {"error": "no space left"}
    servers[0].backend["c"].reports = [("yellow", "ok"), ("grey", "ok"), ("grey", "ok"), ("red", failed)]
    assert [said() for _ in range(4)] == [("yellow", None)] + [("grey", None)] * 3
    ask.update_collection("c", metadata={"a": 2})
    assert said() == ("grey", None)
    ask.update_collection("c", optimizers_config=m.OptimizersConfigDiff())
    assert [said() for _ in range(2)] == [("red", "no space left"), ("green", None)]


def test_settings_are_merged_and_keys_of_metadata_replaced(ask: Ask) -> None:
    def change(**hnsw: int) -> m.HnswConfigDiff:
        ask.update_collection("c", vectors_config={"v": m.VectorParamsDiff(hnsw_config=m.HnswConfigDiff(**hnsw))})
        return ask.get_collection("c").config.params.vectors["v"].hnsw_config

    assert change(m=0, ef_construct=50) == m.HnswConfigDiff(m=0, ef_construct=50)
    assert change(m=8) == change() == m.HnswConfigDiff(m=8, ef_construct=50)
    ask.update_collection("c", metadata={"a": None, "b": {"x": None}, "c": [1]})
    assert ask.get_collection("c").config.metadata == {"b": {"x": None}, "c": [1]}


def test_an_alias_moves_in_one_request(ask: Ask) -> None:
    def link(name: str, target: str) -> m.CreateAliasOperation:
        return m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=target, alias_name=name))

    gone = m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name="now"))
    ask.create_collection("d", {})
    ask.update_collection_aliases([gone, link("now", "c")])
    refusal(404, ask.update_collection_aliases, [gone, link("now", "none")])
    refusal(404, ask.update_collection_aliases, [gone, link("new", "now")])
    refusal(409, ask.update_collection_aliases, [gone, link("d", "c")])
    assert ask.get_aliases().aliases == [m.AliasDescription(alias_name="now", collection_name="c")]
    ask.update_collection_aliases([gone, link("now", "d")])
    assert ask.get_aliases().aliases == [m.AliasDescription(alias_name="now", collection_name="d")]
    assert not ask.delete_collection("now")
    assert ask.collection_exists("now")
    ask.delete_collection("d")
    assert ask.get_aliases().aliases == []
