"""Models from a hub, against a local server that speaks its protocol."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from m3core import DownloadFailed, M3Encoder, ModelNotFound
from m3core.hub import locate

COMMIT = "5617a9f61b028005a4858fdac845db406aefb181"
REPOSITORY = "acme/tiny-m3"


class Hub(ThreadingHTTPServer):
    """Serves one folder as one repository, and notes what was fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.fetched: set[str] = set()
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        folder, (path, _, _) = self.server.folder, self.path.partition("?")
        if path.startswith(f"/api/models/{REPOSITORY}"):
            names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
            siblings = [{"rfilename": n, "size": (folder / n).stat().st_size} for n in names]
            if "/tree/" in path:
                tree = [
                    {"type": "file", "path": n, "size": (folder / n).stat().st_size, "oid": "0" * 40} for n in names
                ]
                self.reply(200, json.dumps(tree).encode(), {}, with_body)
                return
            info = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": siblings}
            self.reply(200, json.dumps(info).encode(), {}, with_body)
        elif path.startswith(f"/{REPOSITORY}/resolve/"):
            name = path.split("/resolve/", 1)[1].split("/", 1)[1]
            content = (folder / name).read_bytes()
            if with_body:
                self.server.fetched.add(name)
            etag = hashlib.sha256(content).hexdigest()
            self.reply(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, with_body)
        else:
            self.reply(
                404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, with_body
            )

    def reply(self, status: int, content: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def hub(m3_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import shutil

    folder = Path(shutil.copytree(m3_dir, tmp_path / "repository"))
    (folder / "pytorch_model.bin").write_bytes(b"the same weights again")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx_data").write_bytes(b"gigabytes")
    (folder / "long.jpg").write_bytes(b"picture")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    server = Hub(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_loads_from_a_hub_with_its_commit(hub: Hub, tiny_m3: M3Encoder) -> None:
    encoder = M3Encoder(REPOSITORY, endpoint=hub.address, dtype="float32", device="cpu")
    assert (encoder.fingerprint.model, encoder.fingerprint.revision) == (REPOSITORY, COMMIT)
    ours, theirs = (e.encode_documents(["the one"]).dense for e in (encoder, tiny_m3))
    np.testing.assert_array_equal(ours, theirs)


def test_only_the_files_that_are_needed_are_fetched(hub: Hub) -> None:
    locate(REPOSITORY, endpoint=hub.address)
    assert "model.safetensors" in hub.fetched
    assert hub.fetched.isdisjoint({"pytorch_model.bin", "onnx/model.onnx_data", "long.jpg"})


def test_torch_weights_are_fetched_where_there_are_no_others(hub: Hub) -> None:
    (hub.folder / "model.safetensors").unlink()
    locate(REPOSITORY, endpoint=hub.address)
    assert "pytorch_model.bin" in hub.fetched


def test_the_cache_serves_when_the_hub_is_away(hub: Hub) -> None:
    directory = locate(REPOSITORY, endpoint=hub.address).directory
    assert locate(REPOSITORY, endpoint="http://127.0.0.1:9").directory == directory
    assert locate(REPOSITORY, fetch=False).directory == directory


def test_an_unknown_repository_is_named(hub: Hub) -> None:
    with pytest.raises(ModelNotFound, match="'acme/nothing' is neither a directory nor a hub repository"):
        M3Encoder("acme/nothing", endpoint=hub.address)


def test_a_hub_out_of_reach_is_named_with_the_ways_out(hub: Hub) -> None:
    with pytest.raises(DownloadFailed, match=r"not in the cache.*mirror as endpoint= or in HF_ENDPOINT.*m3-mini"):
        M3Encoder("acme/other", endpoint="http://127.0.0.1:9")
