"""Training text that anybody can fetch: Debian's documentation, less the files that the judged sets are made of.

The packages are of Debian 12: fetch them by `apt-get download`, and unpack them by `dpkg-deb -x` into one folder each.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGES = (
    "debian-edu-doc-en",
    "debian-edu-doc-zh-cn",
    "debian-faq",
    "debian-faq-zh-cn",
    "debian-reference-en",
    "debian-reference-zh-cn",
    "installation-guide-amd64",
    "kicad-doc-en",
    "kicad-doc-zh",
    "libreoffice-help-en-us",
    "libreoffice-help-zh-cn",
    "maint-guide",
    "maint-guide-zh-cn",
)

_LIST = Path(__file__).with_name("heldout.sha256")


def documents(root: Path) -> Iterator[Path]:
    """The pages of unpacked packages that may be trained on, in order: HTML, no held-out ones."""
    for path in sorted(root.rglob("*.html")):
        if path.is_file() and not path.is_symlink() and not held_out(path):
            yield path


def held_out(path: Path) -> bool:
    """Whether a judged passage is of this file, by the hash of its bytes, whatever its name."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() in _hashes()


@cache
def _hashes() -> frozenset[str]:
    return frozenset(line.split()[0] for line in _LIST.read_text("utf-8").splitlines())
