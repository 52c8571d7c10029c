"""What a hub keeps: repositories, their commits and branches, and the files of a commit."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

_LFS = ("*.safetensors", "*.bin", "*.pt", "*.onnx", "tokenizer.json", "*/tokenizer.json")
_LFS_FROM = 10_000  # bytes


@dataclass(frozen=True)
class File:
    """One file of a commit; git keeps only a pointer to an LFS file."""

    content: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        spec = "https://git-lfs.github.com/spec/v1"
        return f"version {spec}\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()

    @cached_property
    def blob_id(self) -> str:
        kept = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest()

    @property
    def etag(self) -> str:
        return f'"{self.sha256 if self.lfs else self.blob_id}"'


def files_of(source: Path | Mapping[str, bytes]) -> dict[str, File]:
    """The files of a folder, or of contents by path."""
    if isinstance(source, Path):
        source = {p.relative_to(source).as_posix(): p.read_bytes() for p in source.rglob("*") if p.is_file()}
    return {
        name: File(content, len(content) > _LFS_FROM or any(fnmatch(name, pattern) for pattern in _LFS))
        for name, content in sorted(source.items())
    }


@dataclass
class Repository:
    """Commits by id, and which of them a branch or a tag is now: `repository.refs["main"] = older`."""

    name: str
    token: str | None = None
    gated: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    @property
    def private(self) -> bool:
        return self.token is not None and not self.gated

    def info(self, commit: str, *, blobs: bool) -> dict[str, Any]:
        return {
            "_id": "0" * 24,
            "id": self.name,
            "modelId": self.name,
            "sha": commit,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "lastModified": "2024-07-03T14:50:10.000Z",
            "createdAt": "2024-01-27T17:07:29.000Z",
            "siblings": [_sibling(name, file, blobs) for name, file in self.commits[commit].items()],
        }

    def tree(self, commit: str, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = {}
        for name, file in self.commits[commit].items():
            if not PurePosixPath(name).is_relative_to(folder):
                continue
            for parent in PurePosixPath(name).parents:
                if parent.is_relative_to(folder) and str(parent) not in (".", folder):
                    entries[str(parent)] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": str(parent)}
            lfs = {"oid": file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)}
            entry = {"type": "file", "oid": file.blob_id, "size": len(file.content), "path": name}
            entries[name] = entry | ({"lfs": lfs} if file.lfs else {})
        depth = len(PurePosixPath(folder).parts) + 1
        return [e for path, e in entries.items() if recursive or len(PurePosixPath(path).parts) == depth]


def _sibling(name: str, file: File, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": name}
    sibling: dict[str, Any] = {"rfilename": name, "size": len(file.content), "blobId": file.blob_id}
    if file.lfs:
        lfs = {"sha256": file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)}
        sibling["lfs"] = lfs
    return sibling
