"""Which hubs to ask, in which order."""

import json
import os
import re
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from m3core.errors import InvalidInput

HUGGING_FACE = "https://huggingface.co"
PUBLIC = (HUGGING_FACE, "https://hf-mirror.com")
_FORGIVEN = 600.0  # seconds until an endpoint that did not answer is asked in its turn again


@dataclass(frozen=True)
class Endpoint:
    """The address of a hub or of a mirror.

    Attributes:
        address: as requests take it, without a slash at the end.
        named: whether the user named it; it comes before all others then.
        trusted: whether it gets the token.
    """

    address: str
    named: bool
    trusted: bool

    def __str__(self) -> str:
        """The address."""
        return self.address


def endpoints(endpoint: str | None = None, *, token: str | None = None) -> list[Endpoint]:
    """All endpoints in their order: the one given, `M3_ENDPOINTS`, `HF_ENDPOINT`, and then the public ones.

    Args:
        endpoint: comes first.
        token: one that is given beside an endpoint is for that only.

    Raises:
        InvalidInput: one is no http(s) address, or holds a password, which would be logged.
    """
    listed = re.split(r"[\s,]+", os.environ.get("M3_ENDPOINTS", ""))
    named = [text.strip() for text in (endpoint or "", *listed, os.environ.get("HF_ENDPOINT", "")) if text.strip()]
    for address in named:
        _check(address)
    named = [address.rstrip("/") for address in named]
    trusted = named[:1] if endpoint and token else [*named, HUGGING_FACE]
    return [Endpoint(address, address in named, address in trusted) for address in dict.fromkeys([*named, *PUBLIC])]


def _check(address: str) -> None:
    if "@" in address:
        raise InvalidInput("an endpoint has a user or a password in its address, which would be logged; use token=")
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInput(f"an endpoint is an address such as https://hf-mirror.com, not {address!r}")


class Health:
    """Which endpoints did not answer lately. Remembered on disk, so that a blocked one delays one start only."""

    def __init__(self) -> None:
        """Reads what earlier processes found."""
        from huggingface_hub import cached_assets_path

        self._file: Path | None = None
        self._failed: dict[str, float] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):  # a place that cannot be used is none
            self._file = cached_assets_path("m3-retrieval", namespace="hub", subfolder="health") / "endpoints.json"
            if self._file.is_file():
                self._failed = {str(k): float(v) for k, v in json.loads(self._file.read_text("utf-8")).items()}

    def ordered(self, choice: Sequence[Endpoint]) -> list[Endpoint]:
        """Those that did not answer lately go last, among those that are named and among the others."""
        return sorted(choice, key=lambda endpoint: (not endpoint.named, not self.is_well(endpoint)))

    def is_well(self, endpoint: Endpoint) -> bool:
        """Whether nothing is known against it."""
        return not 0 <= time.time() - self._failed.get(str(endpoint), 0.0) < _FORGIVEN

    def failed(self, endpoint: Endpoint) -> None:
        """It did not answer."""
        self._failed[str(endpoint)] = time.time()
        self._save()

    def answered(self, endpoint: Endpoint) -> None:
        """It did."""
        if self._failed.pop(str(endpoint), None) is not None:
            self._save()

    def _save(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                temporary = self._file.with_name(f"{self._file.name}.{uuid.uuid4().hex[:8]}")
                temporary.write_text(json.dumps(self._failed), encoding="utf-8")
                temporary.replace(self._file)
