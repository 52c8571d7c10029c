"""What is asked of a Ray cluster, and what is sent to it, without one."""

import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
from m3core import InvalidInput, M3Encoder
from m3stores.pipeline.cluster import document_tables, encoders_on, is_for_cpus, to_send
from m3stores.pipeline.connecting import check_can_be_sent, connected
from m3stores.pipeline.documents import Columns
from m3stores.pipeline.sources import Documents

ENCODER = {"model": "BAAI/bge-m3", "device": None, "engine": "auto", "dtype": "auto", "cache_folder": None}


def cpus(*numbers: int) -> list[dict[str, float]]:
    """Nodes of so many processors."""
    return [{"CPU": number, "memory": 1e9} if number else {"memory": 1e9} for number in numbers]


@pytest.mark.parametrize(
    ("nodes", "encoders", "threads", "each"),
    [
        (cpus(64), 1, 64, 63),
        (cpus(2, 64, 64, 64), 3, 64, 63),  # a small head
        (cpus(0, 8, 8), 2, 8, 7),
        (cpus(128, 64, 64, 64), 5, 64, 63),
        (cpus(2, 2), 2, 2, 1),
        (cpus(1), 1, 1, 0.25),  # the others need something too
        (cpus(1, 1, 1), 3, 1, 0.25),
        (cpus(0), 1, 1, 0.25),  # more may come
    ],
)
def test_an_encoder_gets_a_machine_of_the_usual_size(
    nodes: list[dict[str, float]], encoders: int, threads: int, each: float
) -> None:
    assert encoders_on(nodes, gpus=True) == (encoders, threads, {"num_cpus": each})


def test_gpus_are_taken_unless_the_encoder_is_for_cpus() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}]
    number, _, needs = encoders_on(nodes, gpus=True)
    assert (number, needs["num_gpus"]) == (3, 1)
    assert encoders_on(nodes, gpus=False) == (3, 8, {"num_cpus": 7})
    for given in ({"device": "cpu"}, {"device": ["cpu", "cpu"]}, {"dtype": "int8"}, {"engine": "openvino"}):
        assert is_for_cpus(ENCODER | given)
        assert to_send(ENCODER | given)["device"] == "cpu"
    for given in ({"device": None}, {"device": "cuda:1"}, {"device": ["cuda:0", "cuda:1"]}, {"device": "mps"}):
        assert not is_for_cpus(ENCODER | given)
        assert to_send(ENCODER | given)["device"] is None


def test_an_encoder_is_sent_as_it_means_the_same_elsewhere(
    m3_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(m3_dir.parent)
    with M3Encoder(m3_dir.name, device="cpu", max_length=77, cache=tmp_path / "cache", cache_folder="kept") as encoder:
        sent = to_send(encoder.arguments)
        assert encoder.arguments["cache"] is not None
    expected = encoder.arguments | {"model": str(m3_dir), "cache": None, "cache_folder": str(m3_dir.parent / "kept")}
    assert sent == expected
    assert to_send(ENCODER | {"cache_folder": "~/models"})["cache_folder"] == "~/models"
    assert to_send(ENCODER)["model"] == "BAAI/bge-m3"


def test_documents_are_read_in_tables_of_few_bytes() -> None:
    texts = ["a" * 1000] * 600 + ["b" * 200_000] * 7 + ["c" * 3_000_000] * 2
    tables = list(document_tables(Documents([{"text": text} for text in texts], Columns(), "utf-8")))
    assert [text for table in tables for text in table.column("text").to_pylist()] == texts
    assert [table.num_rows for table in tables] == [256, 256, 91, 3, 2, 1]


class Locked:
    """A source that cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        yield {"text": "a"}


class Free:
    """One that can."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        yield {"text": "a"}


def test_a_source_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(InvalidInput, match="generator"):
        check_can_be_sent(iter([{"text": "a"}]))
    with pytest.raises(InvalidInput, match="a Locked cannot be sent"):
        check_can_be_sent(Locked())
    check_can_be_sent(Free())
    check_can_be_sent([{"text": "a"}])


@pytest.mark.parametrize(
    ("address", "message"),
    [("ray://here:10001", "host:port of the cluster itself"), ("127.0.0.1:1", "no Ray cluster can be reached")],
)
def test_an_address_that_is_none_is_refused(address: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)), connected(address):
        pytest.fail("connected")
