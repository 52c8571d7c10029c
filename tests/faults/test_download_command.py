"""`m3 download` and what `m3 info` says of the cache, against the local hub."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from faults import Hub
from m3cli.app import app
from m3core import InvalidInput, InvalidModel, M3Encoder
from m3core.converting import add_safetensors
from m3core.hub import Located, locate

NAME = "acme/tiny-m3"


def m3(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def files(m3_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in m3_dir.iterdir()}


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_HUB_CACHE", "HF_ASSETS_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path / name))
    monkeypatch.setattr("m3core.hub.endpoints.PUBLIC", ())
    with Hub() as hub:
        hub.add(NAME, files)
        yield hub


@pytest.fixture
def torch_files(files: dict[str, bytes], tmp_path: Path) -> dict[str, bytes]:
    """As BAAI/bge-m3 has them: pytorch_model.bin and no safetensors."""
    import torch
    from safetensors.torch import load

    torch.save(load(files["model.safetensors"]), tmp_path / "weights")
    rest = {name: content for name, content in files.items() if name != "model.safetensors"}
    return {**rest, "pytorch_model.bin": (tmp_path / "weights").read_bytes()}


def test_into_the_cache_and_what_info_says_of_it(hub: Hub) -> None:
    directory = Path(m3("download", NAME, "--endpoint", hub.address).strip())
    assert directory == locate(NAME, local_files_only=True).directory
    out = m3("info", NAME)
    for line in (r"from +" + hub.address, "files +verified", "modes +dense, sparse, multivector"):
        assert pytest.importorskip("re").search(line, out), out
    cached = m3("info").splitlines()[-1].split()
    assert cached[:2] == [NAME, directory.name[:8]]
    assert cached[-2:] == [hub.address, "verified"]
    content = bytearray((directory / "config.json").read_bytes())
    content[-2] ^= 1
    (directory / "config.json").resolve().write_bytes(content)
    assert "damaged: config.json" in m3("info")


def test_into_a_directory(hub: Hub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = tmp_path / "model"
    assert m3("download", NAME, "--endpoint", hub.address, "--to", to).strip() == str(to)
    assert {path.name: path.read_bytes() for path in to.iterdir() if not path.is_symlink()} == files
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    m3("download", NAME, "--endpoint", hub.address, "--to", ".")
    assert {path.name for path in here.iterdir()} == set(files)
    with pytest.raises(InvalidInput, match="is there already and not an empty directory"):
        m3("download", NAME, "--endpoint", hub.address, "--to", to)


def test_a_revision(hub: Hub, files: dict[str, bytes]) -> None:
    commit = hub.add(NAME, {**files, "vocab.txt": b"old"}, branch="v1")
    assert Path(m3("download", NAME, "--endpoint", hub.address, "--revision", "v1").strip()).name == commit


def test_torch_weights_become_safetensors_once(hub: Hub, torch_files: dict[str, bytes], tiny_m3: M3Encoder) -> None:
    hub.add(NAME, torch_files)
    directory = Path(m3("download", NAME, "--endpoint", hub.address, "--safetensors").strip())
    (directory / "pytorch_model.bin").resolve().write_bytes(b"not read any more")
    written = (directory / "model.safetensors").stat().st_mtime_ns
    ours, theirs = (e.encode_documents(["the one"]).dense for e in (M3Encoder(directory, dtype="float32"), tiny_m3))
    np.testing.assert_array_equal(ours, theirs)
    hub.fetched.clear()
    m3("download", NAME, "--endpoint", hub.address, "--safetensors")
    assert hub.fetched.keys() == {"pytorch_model.bin"}  # which was damaged
    assert (directory / "model.safetensors").stat().st_mtime_ns == written
    content = bytearray((directory / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (directory / "model.safetensors").write_bytes(content)
    assert locate(NAME, endpoint=hub.address).directory == directory
    assert not (directory / "model.safetensors").exists()  # damaged, so it counts as never made


def test_what_cannot_be_converted_is_named(m3_dir: Path, tmp_path: Path) -> None:
    assert add_safetensors(Located(m3_dir, "tiny", None)) is None  # it has some
    with pytest.raises(InvalidModel, match=r"has no pytorch_model\.bin that could be converted"):
        add_safetensors(Located(tmp_path, "tiny", None))
    for content in (b"", b"PK\x03\x04 cut", b"\x80\x02cos\nsystem\n(S'exit 1'\ntR."):
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(InvalidModel, match=r"pytorch_model\.bin cannot be converted"):
            add_safetensors(Located(tmp_path, "tiny", None))
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_model.bin"]
