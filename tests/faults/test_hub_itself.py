"""The hub is a true one, and each fault does what it says."""

import gzip
import hashlib
import ssl
import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from faults import (
    CERTIFICATE,
    Announced,
    Captive,
    Fault,
    Gzipped,
    Hub,
    RangeIgnored,
    Redirected,
    Reset,
    Silent,
    Slow,
    Stalled,
    Status,
    Truncated,
    WrongBytes,
    WrongRange,
    on,
    refused,
    too_many,
    unanswered,
    unconnectable,
)

REPOSITORY = "acme/tiny-m3"
WEIGHTS = bytes(range(256)) * 1000
FILES = {
    "config.json": b'{"model_type": "xlm-roberta"}',
    "empty.txt": b"",
    "model.safetensors": WEIGHTS,
    "onnx/model.onnx": b"graph",
    "1_Pooling/a name.json": b"{}",
}
CONFIG, MODEL = f"/{REPOSITORY}/resolve/main/config.json", f"/{REPOSITORY}/resolve/main/model.safetensors"


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    hub.add(REPOSITORY, FILES)
    with hub:
        yield hub


def get(hub: Hub, path: str = MODEL, *, timeout: float = 10, **headers: str) -> httpx.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(hub.address + path, headers=headers, follow_redirects=True, timeout=timeout)


def contents(folder: str | Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@pytest.mark.parametrize("prefix", ["", "/https/hf-mirror.com"])
def test_the_hub_library_downloads_a_folder_bit_for_bit(prefix: str, tmp_path: Path) -> None:
    hub = Hub(prefix)
    for name, content in FILES.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    commit = hub.add(REPOSITORY, tmp_path / "folder")
    with hub:
        folder = snapshot_download(REPOSITORY, endpoint=hub.address, cache_dir=tmp_path / "cache", token="secret")
    assert contents(folder) == FILES
    assert Path(folder).name == commit
    assert hub.fetched == {name: len(content) for name, content in FILES.items() if content}
    assert {(request.cdn, request.token) for request in hub.requests} == {(False, "secret"), (True, "")}


def test_one_file_of_a_branch_that_moves(hub: Hub, tmp_path: Path) -> None:
    older = hub.repositories[REPOSITORY].refs["main"]
    newer = hub.add(REPOSITORY, {"config.json": b"newer"})
    hub.repositories[REPOSITORY].refs["refs/pr/1"] = older

    def config(revision: str) -> bytes:
        path = hf_hub_download(REPOSITORY, "config.json", revision=revision, endpoint=hub.address, cache_dir=tmp_path)
        return Path(path).read_bytes()

    assert (config("main"), config(newer)) == (b"newer", b"newer")
    assert (config("refs/pr/1"), config(older)) == (FILES["config.json"], FILES["config.json"])
    hub.repositories[REPOSITORY].refs["main"] = older
    assert config("main") == FILES["config.json"]


def test_the_list_of_files(hub: Hub) -> None:
    api = HfApi(endpoint=hub.address, token=False)
    commit = hub.repositories[REPOSITORY].refs["main"]
    info = api.model_info(REPOSITORY, files_metadata=True)
    files = {file.rfilename: file for file in info.siblings or ()}
    assert (info.sha, set(files)) == (commit, set(FILES))
    assert {name: file.size for name, file in files.items()} == {name: len(c) for name, c in FILES.items()}
    lfs = files["model.safetensors"].lfs
    assert lfs is not None
    assert lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    blob = hashlib.sha1(b"blob %d\0" % len(FILES["config.json"]) + FILES["config.json"]).hexdigest()
    assert (files["config.json"].blob_id, files["config.json"].lfs) == (blob, None)
    assert {file.size for file in api.model_info(REPOSITORY, revision=commit).siblings or ()} == {None}
    tree = {entry.path for entry in api.list_repo_tree(REPOSITORY)}
    assert tree == {"config.json", "empty.txt", "model.safetensors", "onnx", "1_Pooling"}
    assert [entry.path for entry in api.list_repo_tree(REPOSITORY, "onnx")] == ["onnx/model.onnx"]


def test_what_there_is_not_and_what_is_not_for_everyone(hub: Hub) -> None:
    hub.add("acme/private", FILES, token="secret")
    hub.add("acme/gated", FILES, token="secret", gated=True)
    api = HfApi(endpoint=hub.address, token=False)
    for name in ("acme/nothing", "acme/private"):
        with pytest.raises(RepositoryNotFoundError, match="401"):
            api.model_info(name)
        with pytest.raises(RepositoryNotFoundError, match="404"):
            api.model_info(name, token="another")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPOSITORY, revision="v9")
    with pytest.raises(RemoteEntryNotFoundError):
        api.get_hf_file_metadata(url=hub.address + CONFIG + "x")
    assert api.model_info("acme/private", token="secret").private
    assert api.model_info("acme/gated").gated == "manual"
    with pytest.raises(GatedRepoError):
        api.get_hf_file_metadata(url=f"{hub.address}/acme/gated/resolve/main/config.json")
    assert get(hub, "/acme/gated/resolve/main/config.json", Authorization="Bearer secret").is_success


def test_a_link_to_a_large_file_is_signed_and_takes_no_token(hub: Hub) -> None:
    found = httpx.head(hub.address + MODEL)
    assert found.status_code == 302
    assert found.headers["X-Linked-Size"] == str(len(WEIGHTS))
    assert found.headers["X-Linked-ETag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    link = found.headers["Location"]
    assert not link.startswith(hub.address)
    assert httpx.get(link).content == WEIGHTS
    assert httpx.get(link, headers={"Authorization": "Bearer secret"}).status_code == 400
    hub.signed.clear()
    assert httpx.get(link).status_code == 403


def test_redirects_behind_a_proxy_that_has_it_all_at_one_port() -> None:
    hub = Hub("/https/hf-mirror.com", cdn="here")
    hub.add(REPOSITORY, FILES)
    with hub:
        origin = hub.address.removesuffix("/https/hf-mirror.com")
        assert httpx.head(hub.address + MODEL).headers["Location"].startswith(f"{origin}/cdn/")
        assert httpx.head(hub.address + CONFIG).headers["Location"].startswith(f"{hub.address}/api/resolve-cache/")
        assert (get(hub).content, get(hub, CONFIG).content) == (WEIGHTS, FILES["config.json"])
        assert get(hub, Authorization="Bearer secret").status_code == 400
        assert httpx.get(origin + CONFIG).status_code == 404


@pytest.mark.parametrize(
    ("asked", "part"), [("100-199", slice(100, 200)), ("255990-", slice(255_990, None)), ("-5", slice(-5, None))]
)
def test_a_part_of_a_file(hub: Hub, asked: str, part: slice) -> None:
    answer = get(hub, Range=f"bytes={asked}")
    start, stop, _ = part.indices(len(WEIGHTS))
    assert (answer.status_code, answer.content) == (206, WEIGHTS[part])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(WEIGHTS)}"
    assert get(hub, Range=f"bytes={asked}", If_Range='"another"').status_code == 200


def test_a_part_that_is_not_there(hub: Hub) -> None:
    answer = get(hub, Range="bytes=256000-")
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */256000")


def test_a_connection_serves_many_requests(hub: Hub) -> None:
    with httpx.Client(base_url=hub.address, follow_redirects=True) as client:
        assert client.head(CONFIG).headers["Content-Length"] == "29"
        assert [client.get(path).content for path in (CONFIG, MODEL)] == [FILES["config.json"], WEIGHTS]
    assert [r.status for r in hub.requests] == [307, 200, 307, 200, 302, 200]


def test_addresses_without_a_hub() -> None:
    with refused() as address, pytest.raises(httpx.ConnectError):
        httpx.get(address)
    with unanswered() as address, pytest.raises(httpx.ReadTimeout):
        httpx.get(address, timeout=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="a full queue refuses elsewhere")
def test_an_address_that_drops_packets() -> None:
    with unconnectable() as address, pytest.raises(httpx.ConnectTimeout):
        httpx.get(address, timeout=0.1)


def test_a_certificate_that_nobody_trusts() -> None:
    hub = Hub(tls=True)
    hub.add(REPOSITORY, FILES)
    with hub:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            get(hub)
        trusting = ssl.create_default_context(cafile=CERTIFICATE)
        assert httpx.get(hub.address + MODEL, verify=trusting, follow_redirects=True).content == WEIGHTS


def test_a_rule_says_what_a_fault_is_for(hub: Hub) -> None:
    hub.fault = on(Status(503), "*.safetensors", times=2)
    assert [get(hub, CONFIG).status_code] + [get(hub).status_code for _ in range(3)] == [200, 503, 503, 200]
    hub.fault = on(Status(500), kind="info")
    assert [get(hub, f"/api/models/{REPOSITORY}").status_code, get(hub).status_code] == [500, 200]
    hub.fault = lambda request: Status(403) if request.cdn else None
    assert [get(hub).status_code, get(hub, CONFIG).status_code] == [403, 200]


def test_errors(hub: Hub) -> None:
    hub.fault = Status(404, "EntryNotFound", "Entry not found")
    assert (get(hub).status_code, get(hub).headers["X-Error-Code"]) == (404, "EntryNotFound")
    hub.fault = too_many(2)
    assert (get(hub).status_code, get(hub).headers["Retry-After"]) == (429, "2")
    hub.fault = too_many(60, dated=True)
    assert 50 < parsedate_to_datetime(get(hub).headers["Retry-After"]).timestamp() - time.time() <= 60
    hub.fault = Redirected()
    with pytest.raises(httpx.TooManyRedirects):
        get(hub)
    hub.fault = Captive()
    assert "Log in" in get(hub, f"/api/models/{REPOSITORY}").text


def test_a_redirect_to_another_hub(hub: Hub) -> None:
    with Hub() as mirror:
        mirror.fault = Redirected(hub.address)
        assert get(mirror).content == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "error", "got"),
    [
        (Truncated(5000), httpx.RemoteProtocolError, 5000),
        (Stalled(5000), httpx.ReadTimeout, 5000),
        (Silent(), httpx.ReadTimeout, 0),
        (Reset(), httpx.ReadError, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fault) else "",
)
def test_answers_that_end_too_early(hub: Hub, fault: Fault, error: type[Exception], got: int) -> None:
    hub.fault = on(fault)
    with pytest.raises(error):
        get(hub, timeout=0.3)
    assert hub.fetched["model.safetensors"] == got


def test_a_reset_half_way(hub: Hub) -> None:
    hub.fault = on(Reset(after=5000))
    with pytest.raises(httpx.ReadError):
        get(hub)


def test_a_wait_before_the_answer(hub: Hub) -> None:
    hub.fault = on(Silent(0.1), times=1)
    began = time.monotonic()
    assert get(hub).content == WEIGHTS
    assert time.monotonic() - began >= 0.1


def test_slowly(hub: Hub) -> None:
    hub.fault = on(Slow(1_000_000))
    began = time.monotonic()
    assert get(hub).content == WEIGHTS
    assert time.monotonic() - began >= 0.25
    hub.fault = on(Slow(50))  # it drips
    with httpx.stream("GET", hub.address + CONFIG, follow_redirects=True) as answer:
        assert len(next(answer.iter_raw())) < len(FILES["config.json"])


def test_contents_and_headers_that_are_wrong(hub: Hub) -> None:
    hub.fault = on(WrongBytes(at=7))
    assert [i for i, (a, b) in enumerate(zip(get(hub).content, WEIGHTS, strict=True)) if a != b] == [7]
    hub.fault = on(RangeIgnored())
    assert (get(hub, Range="bytes=100-").status_code, get(hub, Range="bytes=100-").content) == (200, WEIGHTS)
    hub.fault = on(WrongRange(shift=10))
    answer = get(hub, Range="bytes=100-199")
    assert (answer.headers["Content-Range"], answer.content) == ("bytes 90-189/256000", WEIGHTS[90:190])
    hub.fault = on(Gzipped())
    with httpx.stream("GET", hub.address + MODEL, follow_redirects=True) as answer:
        assert gzip.decompress(b"".join(answer.iter_raw())) == WEIGHTS


def test_hashes_and_sizes_that_are_wrong(hub: Hub) -> None:
    hub.fault = Announced("*.safetensors", etag="0" * 64, size=7)
    files = get(hub, f"/api/models/{REPOSITORY}?blobs=true").json()["siblings"]
    sizes = {file["rfilename"]: file["size"] for file in files}
    assert sizes == {name: len(content) for name, content in FILES.items()} | {"model.safetensors": 7}
    assert [file["lfs"]["sha256"] for file in files if file["rfilename"] == "model.safetensors"] == ["0" * 64]
    headers = httpx.head(hub.address + MODEL).headers
    assert (headers["X-Linked-ETag"], headers["X-Linked-Size"]) == (f'"{"0" * 64}"', "7")


@pytest.mark.parametrize("tls", [False, True])
def test_stopping_ends_what_stalls(tls: bool) -> None:
    hub = Hub(tls=tls)
    hub.add(REPOSITORY, FILES)
    hub.fault = Stalled(10)
    with hub:
        client = httpx.Client(verify=False, timeout=None)
        answer = client.send(client.build_request("GET", f"{hub.address}/api/models/{REPOSITORY}"), stream=True)
        began = time.monotonic()
    assert time.monotonic() - began < 0.5
    with pytest.raises(httpx.TransportError):
        answer.read()


def test_a_client_that_goes_away_ends_its_answer(hub: Hub) -> None:
    hub.fault = on(Slow(100_000))
    with httpx.stream("GET", hub.address + MODEL, follow_redirects=True):
        assert hub.wait_for(lambda: hub.fetched["model.safetensors"] > 0)
    assert 0 < hub.fetched["model.safetensors"] < len(WEIGHTS)
