"""Caches as they are found: written by others, damaged, read-only, without links, used by many at once."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faults import Captive, Hub, Status, Truncated, on
from m3core import DownloadFailed, InvalidInput, ModelNotFound
from m3core.hub import locate

NAME = "acme/tiny-m3"
WEIGHTS = "model.safetensors"


@pytest.fixture
def files(m3_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in m3_dir.iterdir()}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr("m3core.hub.endpoints.PUBLIC", ())
    monkeypatch.setattr("m3core.hub.fetching._WAITS", (0.0, 0.0))
    monkeypatch.setitem(__import__("sys").modules, "modelscope_hub", None)
    with Hub() as hub:
        monkeypatch.setenv("M3_ENDPOINTS", hub.address)
        hub.add(NAME, files)
        yield hub


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_files_that_were_copied_in_are_compared_with_the_hub(hub: Hub, files: dict[str, bytes], cache: Path) -> None:
    directory = locate(NAME).directory
    (cache / "models--acme--tiny-m3" / "m3-retrieval.json").unlink()
    for path in list(directory.iterdir()):  # as zip and cp -L leave them
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    shutil.rmtree(cache / "models--acme--tiny-m3" / "blobs")
    (directory / WEIGHTS).write_bytes(files[WEIGHTS][:1000])
    hub.fetched.clear()
    assert contents(locate(NAME).directory) == files
    assert set(hub.fetched) == {WEIGHTS}


@pytest.mark.parametrize("name", ["sparse_linear.pt", WEIGHTS, "config.json"])
def test_what_is_damaged_in_anothers_snapshot_is_missing_then(
    name: str, hub: Hub, files: dict[str, bytes], cache: Path
) -> None:
    directory = locate(NAME).directory
    (cache / "models--acme--tiny-m3" / "m3-retrieval.json").unlink()
    (directory / name).resolve().write_bytes(b"damaged")
    for _ in range(2):
        with pytest.raises(DownloadFailed, match=f"It lacks .*{name}"):
            locate(NAME, local_files_only=True)
    assert contents(locate(NAME).directory) == files


def test_a_damaged_file_that_two_commits_share(hub: Hub, files: dict[str, bytes]) -> None:
    old = locate(NAME)
    new = hub.add(NAME, {**files, "vocab.txt": b"new"})
    assert locate(NAME).revision == new
    (old.directory / WEIGHTS).resolve().write_bytes(b"damaged")
    assert contents(locate(NAME, revision=old.revision).directory) == files
    assert contents(locate(NAME).directory) == {**files, "vocab.txt": b"new"}


def test_many_threads_repair_one_damaged_file(hub: Hub, files: dict[str, bytes]) -> None:
    (locate(NAME).directory / WEIGHTS).resolve().write_bytes(b"damaged")
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: locate(NAME).directory, range(32)))
    assert [contents(directory) for directory in found] == [files]


def test_a_cache_that_cannot_be_written_serves_what_it_has(
    hub: Hub, files: dict[str, bytes], cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = locate(NAME)
    shutil.rmtree(cache / ".locks")
    (cache / ".locks").touch()  # permissions mean nothing to root
    hub.add(NAME, {**files, "vocab.txt": b"new"})
    assert locate(NAME) == kept
    assert "going on with what the cache has" in caplog.text
    (kept.directory / WEIGHTS).resolve().write_bytes(b"damaged")
    with pytest.raises(DownloadFailed, match="offline mode"):
        locate(NAME, local_files_only=True)
    (tmp_path / "file").touch()
    with pytest.raises(DownloadFailed, match=r"cannot be written .*choose another place by cache_folder="):
        locate(NAME, cache_folder=tmp_path / "file")


def test_a_system_without_links_loses_nothing(
    hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    twice = {**files, "vocab.txt": b"the same", "merges.txt": b"the same"}
    hub.add(NAME, twice)
    directory = locate(NAME).directory
    assert contents(directory) == twice
    assert not any(path.is_symlink() for path in directory.iterdir())
    hub.fetched.clear()
    assert contents(locate(NAME).directory) == twice
    assert not hub.fetched


def test_a_login_page_costs_nothing_that_has_arrived(hub: Hub, cache: Path) -> None:
    for fault in (on(Truncated(900), WEIGHTS), on(Captive(), WEIGHTS), on(Status(416), WEIGHTS)):
        hub.fault = fault
        with pytest.raises(DownloadFailed):
            locate(NAME)
        (partial,) = cache.rglob("*.incomplete")
        assert partial.stat().st_size >= 900


def test_a_hub_that_stumbles_once_is_asked_again(hub: Hub, files: dict[str, bytes]) -> None:
    hub.fault = on(Status(503), kind="info", times=1)
    assert contents(locate(NAME).directory) == files


def test_the_wait_that_a_hub_asks_for_is_kept(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setenv("M3_ENDPOINTS", f"http://127.0.0.1:9, {hub.address}")  # the first one refuses
    hub.fault = on(Status(429, retry_after="7"), WEIGHTS, times=1)
    locate(NAME)
    assert 7 in slept
    for absurd in ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "-5", "nan", "soon"):
        hub.fault = on(Status(429, retry_after=absurd), kind="info")
        assert locate(NAME).directory  # from the cache
    assert max(slept) == 7


def test_garbage_in_our_own_files_does_not_matter(hub: Hub, files: dict[str, bytes], cache: Path) -> None:
    directory = locate(NAME).directory
    ours = cache / "models--acme--tiny-m3" / "m3-retrieval.json"
    health = Path(__import__("huggingface_hub").constants.HF_ASSETS_CACHE) / "m3-retrieval/hub/health/endpoints.json"
    for garbage in ("[]", '{"a": null}', "{", json.dumps({"snapshots": {directory.name: {}}, "verified": []})):
        ours.write_text(garbage)
        health.parent.mkdir(parents=True, exist_ok=True)
        health.write_text(garbage)
        assert contents(locate(NAME).directory) == files
        assert contents(locate(NAME, local_files_only=True).directory) == files


def test_another_cache_is_named_in_the_command(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=rf"HF_HUB_CACHE={tmp_path / 'other'} m3 download {NAME}$"):
        locate(NAME, cache_folder=tmp_path / "other", local_files_only=True)


def test_a_token_from_a_file_may_end_with_a_new_line(hub: Hub, files: dict[str, bytes]) -> None:
    hub.add("acme/private", files, token="hf_secret")
    assert contents(locate("acme/private", token="hf_secret\n").directory) == files
    with pytest.raises(InvalidInput, match="control character") as caught:
        locate("acme/private", token="hf_sec\nret")
    assert "hf_sec" not in str(caught.value)


def test_a_token_for_one_endpoint_goes_to_no_other(hub: Hub, files: dict[str, bytes]) -> None:
    with Hub() as own:
        own.add("acme/private", files, token="hf_secret")
        own.fault = on(Status(503), kind="info", times=1)
        locate("acme/private", endpoint=own.address, token="hf_secret")
    assert {request.token for request in hub.requests} <= {""}


@pytest.mark.parametrize("model", ["", "  "])
def test_no_model_is_no_model(model: str) -> None:
    with pytest.raises(ModelNotFound, match="not empty"):
        locate(model)
