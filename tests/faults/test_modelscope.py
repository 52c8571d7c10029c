"""ModelScope as the last resort: its real client, against a server that speaks its protocol."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from m3core import DownloadFailed, M3Encoder
from m3core.hub import locate

NAME = "acme/tiny-m3"


class Server(ThreadingHTTPServer):
    """Lists and sends the files of one model."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.sent = files, list[str]()
        self.hashes = {name: sha256(content).hexdigest() for name, content in files.items()}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == f"/api/v1/models/{NAME}/repo/files":
            entries = [
                {"Path": name, "Type": "blob", "Size": len(content), "Sha256": self.server.hashes[name]}
                for name, content in self.server.files.items()
            ]
            self.reply(200, json.dumps({"Code": 200, "Success": True, "Data": {"Files": entries}}).encode())
        elif url.path == f"/api/v1/models/{NAME}/repo":
            name = parse_qs(url.query)["FilePath"][0]
            self.server.sent.append(name)
            self.reply(200, self.server.files[name])
        else:
            self.reply(404, b'{"Code": 404, "Message": "record not found"}')

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def server(m3_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    client = pytest.importorskip("modelscope_hub")
    others = dict.fromkeys(("pytorch_model.bin", "onnx/model.onnx", "README.md"), b"gigabytes")
    served = Server({path.name: path.read_bytes() for path in m3_dir.iterdir()} | others)
    threading.Thread(target=served.serve_forever, args=[0.02], daemon=True).start()
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"http://127.0.0.1:{served.server_port}")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    client.set_default_config(client.HubConfig())  # which it reads once in a process
    for name in ("HF_HUB_CACHE", "HF_ASSETS_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path / name))
    monkeypatch.setattr("m3core.hub.fetching._WAITS", (0.0,))
    monkeypatch.setattr("m3core.hub.endpoints.PUBLIC", ("http://127.0.0.1:9",))  # refuses
    yield served
    served.shutdown()
    served.server_close()


def test_it_delivers_where_no_endpoint_does(
    server: Server, tiny_m3: M3Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DownloadFailed, match="offline mode"):
        locate(NAME, local_files_only=True)
    encoder = M3Encoder(NAME, dtype="float32", device="cpu")
    assert encoder.modes == ("dense", "sparse", "multivector")
    assert encoder.encode_documents(["the one"]).dense.tolist() == tiny_m3.encode_documents(["the one"]).dense.tolist()
    assert server.files.keys() - set(server.sent) >= {"pytorch_model.bin", "onnx/model.onnx", "README.md"}
    assert "http://127.0.0.1:9: " in caplog.text
    assert locate(NAME, local_files_only=True).directory == locate(NAME).directory


def test_wrong_bytes_are_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its client's tries
    logging.getLogger("modelscope_hub").setLevel(logging.ERROR)
    server.hashes["model.safetensors"] = "0" * 64
    with pytest.raises(DownloadFailed, match=r"modelscope\.cn: .*1 of 6 file\(s\) failed"):
        locate(NAME)
    with pytest.raises(DownloadFailed, match="offline mode"):
        locate(NAME, local_files_only=True)


def test_a_commit_is_not_asked_for_there(server: Server) -> None:
    with pytest.raises(DownloadFailed) as caught:
        locate(NAME, revision="5617a9f61b028005a4858fdac845db406aefb181")
    assert caught.value.answers.keys() == {"http://127.0.0.1:9"}


def test_without_its_client_the_error_says_how_to_get_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    with pytest.raises(DownloadFailed, match=r"modelscope\.cn: not asked: pip install 'm3-retrieval\[modelscope\]'"):
        locate(NAME)


def test_it_is_verified_at_every_start_and_serves_when_it_is_gone(server: Server) -> None:
    directory = locate(NAME).directory
    server.shutdown()
    server.server_close()
    assert locate(NAME, local_files_only=True).directory == directory
    content = bytearray((directory / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (directory / "model.safetensors").write_bytes(content)
    with pytest.raises(DownloadFailed, match="offline mode"):
        locate(NAME, local_files_only=True)
