import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from m3core.mini.build import documents


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """The bytes of a file that is held out."""
    content = b"<h1>Heading</h1>"
    (tmp_path / "list").write_text(f"{hashlib.sha256(content).hexdigest()}  usr/share/doc/a/b.html\n")
    monkeypatch.setattr(documents, "_LIST", tmp_path / "list")
    documents._hashes.cache_clear()
    yield content
    documents._hashes.cache_clear()


def test_a_held_out_file_is_left_out_wherever_it_lies(listed: bytes, tmp_path: Path) -> None:
    root = tmp_path / "root" / "doc"
    root.mkdir(parents=True)
    (root / "moved.html").write_bytes(listed)
    (root / "b.html").write_bytes(listed + b" ")
    (root / "picture.png").write_bytes(b"")
    (root / "linked.html").symlink_to("b.html")
    assert list(documents.documents(tmp_path / "root")) == [root / "b.html"]


def test_the_list_is_as_sha256sum_writes_it() -> None:
    lines = documents._LIST.read_text("utf-8").splitlines()
    assert len(lines) == len({line.split()[0] for line in lines}) > 700
    assert all(re.fullmatch(r"[0-9a-f]{64}  usr/share/\S.*", line) for line in lines)
