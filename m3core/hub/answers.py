"""What an endpoint answered, in a few words without secrets."""

import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

_CONNECT = 3.0  # seconds

_NEVER = {401, 403, 404, 410}


def timeouts() -> tuple[float, float, float, float]:
    """The seconds to connect, between two pieces of data (`HF_HUB_DOWNLOAD_TIMEOUT`), to send, and to wait in line."""
    from huggingface_hub import constants

    return _CONNECT, float(constants.HF_HUB_DOWNLOAD_TIMEOUT), float(constants.HF_HUB_DOWNLOAD_TIMEOUT), _CONNECT


class Failed(Exception):
    """An endpoint did not deliver, for the reason that it names.

    Attributes:
        for_good: whether to ask it again is useless.
        wait: seconds after which it wants to be asked again.
    """

    def __init__(self, reason: str, *, for_good: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.for_good, self.wait = for_good, wait


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered.

    Attributes:
        text: in a few words.
        reached: whether it answered at all.
        unwell: whether it did not, or with an error of its own.
        silent: whether it let us wait for nothing.
        not_found: whether it knows no such repository or revision.
        for_good: whether to ask it again is useless.
        wait: seconds after which it wants to be asked again.
    """

    text: str
    reached: bool
    unwell: bool = False
    silent: bool = False
    not_found: bool = False
    for_good: bool = False
    wait: float = 0.0

    @classmethod
    def of(cls, error: Exception, *, secret: str | None = None) -> "Answer":
        """What an error of a request says, but for a secret that it may repeat."""
        answer = cls._of(error)
        return replace(answer, text=answer.text.replace(secret, "…")) if secret else answer

    @classmethod
    def _of(cls, error: Exception) -> "Answer":
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

        if isinstance(error, Failed):
            return cls(str(error), reached=True, for_good=error.for_good, wait=error.wait)
        response = getattr(error, "response", None)
        if response is not None:
            return cls(
                _status(response),
                reached=True,
                unwell=response.status_code >= 500,
                not_found=isinstance(error, RepositoryNotFoundError | RevisionNotFoundError),
                for_good=response.status_code in _NEVER,
                wait=_wait(response),
            )
        name = type(error).__name__
        text = {
            "ConnectTimeout": f"no connection within {timeouts()[0]:g} s",
            "ReadTimeout": f"no data for {timeouts()[1]:g} s",
            "TooManyRedirects": "redirects in a loop",
            "JSONDecodeError": "its answer is no list of files but something else, such as a login page",
        }.get(name) or (str(error).strip() or name).splitlines()[0]
        if isinstance(error, HFValidationError):
            return cls(text, reached=True, not_found=True, for_good=True)
        reached = name in ("TooManyRedirects", "JSONDecodeError")
        return cls(text, reached, unwell=not reached, silent=name.endswith("Timeout"))


def _status(response: Any) -> str:
    code = int(response.status_code)
    phrase = HTTPStatus(code).phrase if code in set(HTTPStatus) else ""
    said = response.headers.get("X-Error-Message") or ""
    return " ".join(part for part in (str(code), phrase, f"({said})" if said else "") if part)


def _wait(response: Any) -> float:
    """The seconds in `Retry-After`, which may be a number or a date."""
    said = response.headers.get("Retry-After")
    if not said:
        return 0.0
    try:
        return max(0.0, float(said))
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
        except (ValueError, OverflowError):
            return 0.0
