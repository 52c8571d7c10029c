"""`m3 index` and `m3 search` with a Qdrant server, through the stand-in."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

from qdrant_standin.serving import Serving, serving
from typer.testing import CliRunner, Result

from m3cli.app import app
from m3core import InvalidInput, M3Warning, StoreError
from m3stores.qdrant import bulk


@pytest.fixture
def server() -> Iterator[Serving]:
    with serving("rest") as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    write(folder, "one", "two", "three")
    return folder


@pytest.fixture
def index(server: Serving, folder: Path, m3_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command, without options for Qdrant."""
    monkeypatch.setattr(bulk, "_FIRST_PAUSE", 0.001)
    place = ["--store", f"qdrant:{server.rest.url}", "--rejects", str(tmp_path / "rejects.jsonl")]
    return ["index", str(folder), *place, "--model", str(m3_dir)]


def write(folder: Path, *texts: str) -> None:
    lines = [json.dumps({"_id": f"r{i}", "text": text}) for i, text in enumerate(texts)]
    (folder / "records.jsonl").write_text("\n".join(lines), "utf-8")


def m3(arguments: list[str], *more: str) -> Result:
    return CliRunner().invoke(app, [*arguments, *more], env={"COLUMNS": "200"}, catch_exceptions=False)


def aliases(server: Serving) -> dict[str, str]:
    return {a["alias_name"]: a["collection_name"] for a in server.rest.backend.aliases()["aliases"]}


def test_texts_are_indexed_anew_behind_an_alias(server: Serving, folder: Path, index: list[str], m3_dir: Path) -> None:
    settings = ["--quantization", "int8", "--on-disk", "--shards", "2", "--replicas", "3"]
    said = m3(index, "--collection", "docs-1", "--alias", "docs", "--bulk", *settings).output
    assert "3 in collection 'docs-1' (dense, sparse, multivector)\nalias 'docs' points to it; before: nothing" in said
    config = server.rest.backend["docs-1"].config
    dense, params = config["params"]["vectors"]["dense"], config["params"]
    assert (params["shard_number"], params["replication_factor"], dense["on_disk"]) == (2, 3, True)
    assert "scalar" in dense["quantization_config"]
    assert dense["hnsw_config"]["m"] == 16
    assert "m3_bulk" not in config["metadata"]

    write(folder, "one", "two", "new", "four")
    for before in ("docs-1", "docs-2"):
        said = m3(index, "--collection", "docs-2", "--alias", "docs", "--bulk").output
        assert f"alias 'docs' points to it; before: {before}\n" in said
    search = ["search", "four", "--store", f"qdrant:{server.rest.url}", "--collection", "docs", "--model", str(m3_dir)]
    assert "4 passages" in m3(search).output
    assert aliases(server) == {"docs": "docs-2"}
    assert "3 passages" in m3([*search, "--collection", "docs-1"]).output


def test_an_alias_stays_where_it_was_unless_all_is_there(server: Serving, folder: Path, index: list[str]) -> None:
    m3(index, "--collection", "docs-1", "--alias", "docs")
    (folder / "bad.txt").write_bytes(b"\xff\xfe\xff")
    again = ["--collection", "docs-2", "--alias", "docs"]
    result = m3(index, *again, "--strict")
    assert (result.exit_code, aliases(server)) == (1, {"docs": "docs-1"})
    assert "points to it" not in result.output
    assert "before: docs-1" in m3(index, *again).output
    write(folder, *["one"] * 20)
    server.order("upsert", status=403)
    with pytest.raises(StoreError, match="A fault to order"):
        m3(index, "--collection", "docs-3", "--alias", "docs", "--bulk")
    assert aliases(server) == {"docs": "docs-2"}
    assert server.rest.backend["docs-3"].config["params"]["vectors"]["dense"]["hnsw_config"]["m"] == 16


@pytest.mark.slow
def test_a_killed_run_leaves_the_alias_and_the_next_one_ends_its_work(server: Serving, index: list[str]) -> None:
    m3(index, "--collection", "docs-1", "--alias", "docs")
    server.order("upsert", delay=1, drop="before")
    again = [*index, "--collection", "docs-2", "--alias", "docs", "--bulk"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    asked = len(server.requests("upsert"))
    with subprocess.Popen([sys.executable, "-m", "m3cli", *again], env=environment) as process:
        while len(server.requests("upsert")) == asked and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    dense = server.rest.backend["docs-2"].config["params"]["vectors"]["dense"]
    assert (aliases(server), dense["hnsw_config"]["m"]) == ({"docs": "docs-1"}, 0)
    with pytest.warns(M3Warning, match="the process that did so was killed"):
        assert "before: docs-1" in m3(again).output
    dense = server.rest.backend["docs-2"].config["params"]["vectors"]["dense"]
    assert (aliases(server), dense["hnsw_config"]["m"]) == ({"docs": "docs-2"}, 16)


def test_what_cannot_be_done_is_said_before_anything_is(server: Serving, index: list[str], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'docs' is the name of a collection"):
        m3(index, "--collection", "docs", "--alias", "docs")
    with pytest.raises(InvalidInput, match="quantization is 'int8', 'turbo4' or None, not 'int4'"):
        m3(index, "--quantization", "int4")
    assert server.rest.backend.names() == []
    embedded = [*index, "--store", f"qdrant:{tmp_path / 'index'}"]
    for options in (["--shards", "2"], ["--replicas", "2"], ["--alias", "docs"]):
        with pytest.raises(InvalidInput, match="give its url"):
            m3(embedded, *options)
    for options in (["--bulk"], ["--alias", "docs"], ["--quantization", "int8"], ["--on-disk"], ["--shards", "2"]):
        with pytest.raises(InvalidInput, match="--replicas are for a store at qdrant:"):
            m3([*index, "--store", f"chroma:{tmp_path / 'chroma'}"], *options)
    assert not (tmp_path / "chroma").exists()


def test_a_bulk_load_of_an_embedded_collection(index: list[str], tmp_path: Path) -> None:
    store = f"qdrant:{tmp_path / 'index'}"
    assert "3 in collection 'documents'" in m3([*index, "--store", store], "--bulk", "--quantization", "turbo4").output
