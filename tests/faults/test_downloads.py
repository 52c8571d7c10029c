"""Downloads from hubs that fail in every way: the model arrives whole, or the error says what each endpoint did."""

import logging
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import pytest

from faults import (
    Announced,
    Captive,
    Fault,
    Gzipped,
    Hub,
    RangeIgnored,
    Redirected,
    Reset,
    Silent,
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
from m3core import DownloadFailed, InvalidInput, InvalidModel, M3Encoder, M3Error, ModelNotFound
from m3core.hub import locate

NAME = "acme/tiny-m3"
WEIGHTS = "model.safetensors"
NEEDED = {
    "colbert_linear.pt",
    "config.json",
    "model.safetensors",
    "sparse_linear.pt",
    "tokenizer.json",
    "tokenizer_config.json",
}

Whole = Callable[[Path], bool]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, short timeouts, no public hubs, and nothing known of any endpoint."""
    for name, place in (("HF_HUB_CACHE", "cache"), ("HF_ASSETS_CACHE", "assets")):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path / place))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.4)
    monkeypatch.setattr("m3core.hub.answers._CONNECT", 0.4)
    monkeypatch.setattr("m3core.hub.endpoints.PUBLIC", ())
    monkeypatch.setattr("m3core.hub.fetching._WAITS", (0.0, 0.0, 0.1))
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)  # not installed
    for name in ("M3_ENDPOINTS", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def repository(m3_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a model and, as on real hubs, of everything else."""
    files = {path.name: path.read_bytes() for path in m3_dir.iterdir()}
    others = ("pytorch_model.bin", "onnx/model.onnx_data", "onnx/config.json", "long.jpg", "README.md", "optimizer.pt")
    return {**files, **dict.fromkeys(others, b"gigabytes")}


@pytest.fixture
def hub(repository: dict[str, bytes]) -> Iterator[Hub]:
    with Hub() as hub:
        hub.add(NAME, repository)
        yield hub


@pytest.fixture
def mirror(repository: dict[str, bytes]) -> Iterator[Hub]:
    """The same at a second endpoint, mounted as proxies of mirrors are."""
    with Hub("/https/hf-mirror.com") as hub:
        hub.add(NAME, repository)
        yield hub


@pytest.fixture
def is_whole(repository: dict[str, bytes]) -> Whole:
    def check(directory: Path) -> bool:
        found = {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
        return found == {name: repository[name] for name in NEEDED}

    return check


def endpoints(monkeypatch: pytest.MonkeyPatch, *hubs: Hub | str) -> None:
    monkeypatch.setenv("M3_ENDPOINTS", ", ".join(hub if isinstance(hub, str) else hub.address for hub in hubs))


FAULTS: dict[str, tuple[object, str]] = {
    # what happens at the first endpoint, and how the error tells it where there is no second one
    "refused": (refused, "Connection refused"),
    "black hole": (unconnectable, r"no connection within 0\.4 s"),
    "silence": (unanswered, r"no data for 0\.4 s"),
    "silence before a file": (on(Silent(), WEIGHTS), r"no data for 0\.4 s"),
    "404": (Status(404, "RepoNotFound", "Repository not found"), r"404 Not Found \(Repository not found\)"),
    "404 for a file": (on(Status(404, "EntryNotFound"), WEIGHTS), "404 Not Found"),
    "404 of something else": (Status(404), "404 Not Found"),
    "401": (Status(401, "RepoNotFound"), "401 Unauthorized"),
    "401 for a file": (on(Status(401, "GatedRepo"), WEIGHTS), "401 Unauthorized"),
    "403": (Status(403), "403 Forbidden"),
    "429": (too_many(0), "429 Too Many Requests"),
    "429 until tomorrow": (on(too_many(86_400, dated=True), WEIGHTS), "429 Too Many Requests"),
    "500": (Status(500), "500 Internal Server Error"),
    "503 for a file": (on(Status(503), WEIGHTS), "503 Service Unavailable"),
    "truncated": (on(Truncated(900), WEIGHTS), "peer closed connection"),
    "reset": (on(Reset(900), WEIGHTS), "reset|disconnected"),
    "reset at once": (Reset(), "reset|disconnected"),
    "wrong bytes": (on(WrongBytes(2000), WEIGHTS), f"sent other bytes of {WEIGHTS} than it announced"),
    "wrong bytes in a small file": (on(WrongBytes(3), "config.json"), r"sent other bytes of config\.json"),
    "stalled": (on(Stalled(900), WEIGHTS), r"no data for 0\.4 s"),
    "redirect loop": (Redirected(), "redirects in a loop"),
    "redirect loop for a file": (on(Redirected(), WEIGHTS), "redirects in a loop"),
    "login page": (Captive(), "its answer is no list of files but something else, such as a login page"),
    "login page for a file": (on(Captive(), WEIGHTS), rf"sends \d+ bytes as {WEIGHTS} where \d+ are due"),
    "another file": (on(Announced(WEIGHTS, etag="0" * 64), WEIGHTS, kind="resolve"), f"has another {WEIGHTS}"),
    "another size": (on(Announced(WEIGHTS, size=7), WEIGHTS), rf"sends 7 bytes as {WEIGHTS}"),
}
HARMLESS: dict[str, object] = {
    "ranges ignored": on(RangeIgnored(), WEIGHTS),
    "another range, once": on(WrongRange(), WEIGHTS, times=1),
    "compressed": on(Gzipped(), WEIGHTS),
    "truncated, twice": on(Truncated(900), WEIGHTS, times=2),
    "429, twice": on(too_many(0), WEIGHTS, times=2),
    "wrong bytes, once": on(WrongBytes(2000), WEIGHTS, times=1),
}


def faulty(fault: object, hub: Hub) -> AbstractContextManager[str]:
    """An endpoint with that fault."""
    if fault in (refused, unanswered, unconnectable):
        return fault()  # type: ignore[operator,no-any-return]
    hub.fault = fault  # type: ignore[assignment]
    return nullcontext(hub.address)


@pytest.mark.parametrize("case", FAULTS)
def test_another_endpoint_helps(
    case: str, hub: Hub, mirror: Hub, is_whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(FAULTS[case][0], hub) as address:
        endpoints(monkeypatch, address, mirror)
        assert is_whole(locate(NAME).directory)


@pytest.mark.parametrize("case", FAULTS)
def test_without_another_endpoint_the_error_is_exact_and_nothing_is_used(
    case: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, said = FAULTS[case]
    with faulty(fault, hub) as address:
        endpoints(monkeypatch, address)
        with pytest.raises((DownloadFailed, ModelNotFound), match=rf"{address}: .*({said})") as caught:
            locate(NAME)
    found = isinstance(caught.value, ModelNotFound)
    assert found == (case in ("404", "401"))
    assert not list((tmp_path / "cache").rglob("snapshots/*/*"))
    with pytest.raises(DownloadFailed, match=f"m3 download {NAME}"):
        locate(NAME, local_files_only=True)


@pytest.mark.parametrize("case", HARMLESS)
def test_one_endpoint_gets_over_it(
    case: str, hub: Hub, is_whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints(monkeypatch, hub)
    hub.fault = on(Truncated(900), WEIGHTS)
    with pytest.raises(DownloadFailed):  # so that there is a part of the file, and the next request has a range
        locate(NAME)
    hub.fault = HARMLESS[case]  # type: ignore[assignment]
    assert is_whole(locate(NAME).directory)


def test_three_endpoints_that_fail_in_turn(
    hub: Hub,
    mirror: Hub,
    repository: dict[str, bytes],
    is_whole: Whole,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("m3core.hub.fetching._PROGRESS", 10**9)
    size = len(repository[WEIGHTS])
    hub.fault = on(Truncated(size // 3), WEIGHTS)
    mirror.fault = on(Stalled(size // 3), WEIGHTS)
    with ExitStack() as stack:
        third, blocked = stack.enter_context(Hub()), stack.enter_context(unconnectable())
        third.add(NAME, repository)
        endpoints(monkeypatch, blocked, hub, mirror, third)
        assert is_whole(locate(NAME).directory)
        assert [hub.fetched[WEIGHTS] > 0 for hub in (hub, mirror, third)] == [True, True, True]
        assert (
            sum(hub.fetched[WEIGHTS] for hub in (hub, mirror, third)) == size
        )  # each went on where the last broke off
    said = [record.getMessage() for record in caplog.records]
    for address, reason in ((blocked, "no connection"), (hub.address, "peer closed"), (mirror.address, "no data")):
        assert any(line.startswith(address) and reason in line for line in said)


def test_only_the_files_that_are_needed_are_fetched(hub: Hub) -> None:
    locate(NAME, endpoint=hub.address)
    assert set(hub.fetched) == NEEDED


def test_torch_weights_are_fetched_where_there_are_no_others(hub: Hub, repository: dict[str, bytes]) -> None:
    hub.add(NAME, {name: content for name, content in repository.items() if name != WEIGHTS})
    locate(NAME, endpoint=hub.address)
    assert set(hub.fetched) == NEEDED - {WEIGHTS} | {"pytorch_model.bin"}


def test_each_folder_has_weights_of_its_own(hub: Hub, repository: dict[str, bytes]) -> None:
    """As sentence-transformers' models that go through a Dense module."""
    names = ("2_Dense/config.json", "2_Dense/pytorch_model.bin", "3_Dense/model.safetensors")
    dense = {name: name.encode() for name in names}
    hub.add(NAME, {**repository, **dense, "3_Dense/pytorch_model.bin": b"the same"})
    locate(NAME, endpoint=hub.address)
    assert set(hub.fetched) == NEEDED | set(dense)


def test_a_repository_without_weights_is_refused(hub: Hub) -> None:
    hub.add("acme/words", {"config.json": b"{}", "onnx/model.onnx": b"1"})
    with pytest.raises(InvalidModel, match=r"acme/words has no weights as safetensors or pytorch_model\.bin"):
        locate("acme/words", endpoint=hub.address)


def test_a_model_loads_with_its_commit_behind_a_proxy_of_a_mirror(mirror: Hub, tiny_m3: M3Encoder) -> None:
    encoder = M3Encoder(NAME, endpoint=mirror.address + "/", dtype="float32", device="cpu")
    assert encoder.fingerprint.revision == mirror.repositories[NAME].refs["main"]
    assert encoder.encode_documents(["the one"]).dense.tolist() == tiny_m3.encode_documents(["the one"]).dense.tolist()


def test_an_untrusted_certificate_is_named(repository: dict[str, bytes]) -> None:
    with Hub(tls=True) as hub:
        hub.add(NAME, repository)
        with pytest.raises(DownloadFailed, match="certificate verify failed"):
            locate(NAME, endpoint=hub.address)


def test_an_endpoint_that_did_not_answer_is_asked_last_the_next_time(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with unconnectable() as blocked:
        endpoints(monkeypatch, blocked, hub)
        locate(NAME)
        assert blocked in caplog.text
        caplog.clear()
        locate(NAME)
        assert blocked not in caplog.text


def test_the_log_says_from_where_files_come(
    hub: Hub, mirror: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "m3core.hub")
    hub.fault = Status(503)
    endpoints(monkeypatch, hub, mirror)
    locate(NAME)
    assert f"from {mirror.address}" in caplog.text


def test_the_cache_serves_when_no_hub_does(hub: Hub, is_whole: Whole, caplog: pytest.LogCaptureFixture) -> None:
    directory = locate(NAME, endpoint=hub.address).directory
    hub.fault = Status(503)
    assert locate(NAME, endpoint=hub.address).directory == directory
    assert "503" in caplog.text
    asked = len(hub.requests)
    assert locate(NAME, endpoint=hub.address).directory == directory  # no answer a moment ago: not asked again
    assert locate(NAME, local_files_only=True).directory == directory
    assert len(hub.requests) == asked
    assert is_whole(directory)


def test_offline_mode_asks_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match=f"offline mode.*all of its files.*m3 download {NAME} --revision v1"):
        locate(NAME, endpoint=hub.address, revision="v1")
    assert not hub.requests


def test_revisions(hub: Hub, repository: dict[str, bytes]) -> None:
    old = hub.repositories[NAME].refs["main"]
    first = locate(NAME, endpoint=hub.address)
    new = hub.add(NAME, {**repository, "vocab.txt": b"new"})
    assert first.revision == old
    assert locate(NAME, endpoint=hub.address).revision == new
    asked, sent = len(hub.requests), hub.fetched[WEIGHTS]
    assert locate(NAME, endpoint=hub.address, revision=old) == first
    assert len(hub.requests) == asked  # a commit never changes
    hub.add(NAME, repository, branch="v1")
    assert locate(NAME, endpoint=hub.address, revision="v1") == first
    assert hub.fetched[WEIGHTS] == sent == len(repository[WEIGHTS])
    with pytest.raises(ModelNotFound, match="at revision 'v2'"):
        locate(NAME, endpoint=hub.address, revision="v2")


def test_a_damaged_file_is_never_used_and_fetched_again(
    hub: Hub, is_whole: Whole, caplog: pytest.LogCaptureFixture
) -> None:
    directory = locate(NAME, endpoint=hub.address).directory
    damage(directory / WEIGHTS)
    with pytest.raises(DownloadFailed, match=rf"It lacks {WEIGHTS}\. Fetch it .*: m3 download {NAME}"):
        locate(NAME, local_files_only=True)
    assert f"{WEIGHTS} is damaged in the cache, and removed" in caplog.text
    assert is_whole(locate(NAME, endpoint=hub.address).directory)
    (directory / WEIGHTS).unlink()
    assert is_whole(locate(NAME, endpoint=hub.address).directory)


def test_what_another_program_fetched_is_verified_and_completed(
    hub: Hub, is_whole: Whole, caplog: pytest.LogCaptureFixture
) -> None:
    from huggingface_hub import snapshot_download

    without = ["*.bin", "onnx/*", "*.jpg", "README.md", "optimizer.pt", "*_linear.pt"]
    directory = Path(snapshot_download(NAME, endpoint=hub.address, ignore_patterns=without, etag_timeout=10))
    assert locate(NAME, local_files_only=True).directory == directory
    damage(directory / WEIGHTS)
    assert is_whole(locate(NAME, endpoint=hub.address).directory)
    assert f"{WEIGHTS} is damaged in the cache" in caplog.text


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.resolve().write_bytes(content)


@pytest.mark.parametrize("name", ["../../escaped.json", "..\\escaped.json", "/tmp/escaped.json"])
def test_a_hub_cannot_write_elsewhere(
    name: str, hub: Hub, repository: dict[str, bytes], tmp_path: Path, is_whole: Whole
) -> None:
    hub.add(NAME, {**repository, name: b"{}"})
    assert is_whole(locate(NAME, endpoint=hub.address).directory)
    assert not list(tmp_path.rglob("*escaped*"))
    hub.fault = on(Announced("config.json", etag="../../escaped"), kind="info")
    hub.add(NAME, {**repository, "vocab.txt": b"new"})
    with pytest.raises(DownloadFailed, match=r"'\.\./\.\./escaped' is no hash"):
        locate(NAME, endpoint=hub.address, cache_folder=tmp_path / "other")


class TestTokens:
    TOKEN = "hf_verysecret"

    @pytest.fixture
    def private(self, hub: Hub, repository: dict[str, bytes]) -> str:
        hub.add("acme/private", repository, token=self.TOKEN)
        return "acme/private"

    def test_it_opens_a_private_repository_and_goes_nowhere_else(
        self, hub: Hub, mirror: Hub, private: str, is_whole: Whole, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("m3core.hub.endpoints.PUBLIC", (mirror.address,))
        mirror.fault, hub.fault = Status(500), on(Status(503), WEIGHTS, times=1)
        monkeypatch.setattr("m3core.hub.fetching._PROGRESS", 0)
        assert is_whole(locate(private, endpoint=hub.address, token=self.TOKEN).directory)
        assert {r.token for r in hub.requests if not r.cdn} == {self.TOKEN}
        assert {r.token for r in hub.requests if r.cdn} == {""}
        assert {r.token for r in mirror.requests} <= {""}

    def test_it_appears_in_no_error_and_no_log(self, hub: Hub, private: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        hub.fault = on(Status(403), WEIGHTS)
        with pytest.raises(DownloadFailed) as caught:
            locate(private, endpoint=hub.address, token=self.TOKEN)
        assert hub.address in str(caught.value)
        assert self.TOKEN not in f"{caught.value} {caught.value.answers} {caplog.text}"

    def test_an_address_with_a_password_is_refused_without_repeating_it(self) -> None:
        with pytest.raises(InvalidInput, match="has a user or a password") as caught:
            locate(NAME, endpoint=f"https://me:{self.TOKEN}@localhost/hub")
        assert self.TOKEN not in str(caught.value)

    def test_without_it_the_error_says_what_to_check(self, hub: Hub, private: str) -> None:
        with pytest.raises(ModelNotFound, match="your access if the repository is private"):
            locate(private, endpoint=hub.address)


def test_there_is_no_beginning_where_the_disk_has_no_room(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10_000}))
    with pytest.raises(DownloadFailed, match=r"acme/tiny-m3 needs 0\.00 GB more, and .* has 0\.00 GB free"):
        locate(NAME, endpoint=hub.address)
    assert not hub.fetched


FETCH = """
import sys, resource
from m3core.hub import locate
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
print(locate("acme/tiny-m3", endpoint=sys.argv[1], cache_folder=sys.argv[2]).directory)
"""


def fetching(hub: Hub, cache: Path, *limit: int) -> "subprocess.Popen[str]":
    """Another process that fetches the model."""
    command = [sys.executable, "-c", FETCH, hub.address, cache, *map(str, limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="stands in for a full disk")
def test_a_full_disk_is_named_and_what_has_arrived_is_kept(
    hub: Hub, repository: dict[str, bytes], tmp_path: Path, is_whole: Whole
) -> None:
    cache = tmp_path / "limited"
    _, said = fetching(hub, cache, 20_000).communicate()
    assert "DownloadFailed: the disk is full" in said
    assert not list(cache.rglob("snapshots/*/*"))
    assert [partial.stat().st_size for partial in cache.rglob("*.incomplete")] == [20_000]
    hub.fetched.clear()
    assert is_whole(locate(NAME, endpoint=hub.address, cache_folder=cache).directory)
    assert hub.fetched[WEIGHTS] == len(repository[WEIGHTS]) - 20_000


def test_two_processes_at_once_fetch_each_file_once(
    hub: Hub, repository: dict[str, bytes], tmp_path: Path, is_whole: Whole
) -> None:
    processes = [fetching(hub, tmp_path / "shared") for _ in range(2)]
    outputs = [process.communicate() for process in processes]
    assert {is_whole(Path(directory.strip())) for directory, _ in outputs} == {True}
    assert hub.fetched == {name: len(repository[name]) for name in NEEDED}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(
    hub: Hub, repository: dict[str, bytes], tmp_path: Path, is_whole: Whole
) -> None:
    """20 kills at moments that a generator of random numbers chose."""
    import random

    from faults import Slow

    chance, cache = random.Random(0), tmp_path / "killed"
    total = sum(len(repository[name]) for name in NEEDED)
    for kill in range(20):
        hub.fault = on(Slow(total / 2))
        wanted = hub.fetched.total() + chance.randrange(total // 25)
        process = fetching(hub, cache)
        assert hub.wait_for(lambda wanted=wanted: hub.fetched.total() > wanted, 30), kill
        process.kill()
        process.communicate()
        assert not list(cache.rglob("snapshots/*/*"))
    hub.fault = None
    assert is_whole(locate(NAME, endpoint=hub.address, cache_folder=cache).directory)
    assert hub.fetched.total() < 2 * total  # it went on; 20 beginnings would be more


def test_nothing_else_is_an_error_of_this_package(hub: Hub) -> None:
    hub.fault = Fault()  # the hub's own handler breaks
    with pytest.raises(M3Error):
        locate(NAME, endpoint=hub.address)
