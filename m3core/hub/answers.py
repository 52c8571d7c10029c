"""What an endpoint answered, in a few words without secrets."""

import time
from dataclasses import dataclass
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
    """

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.for_good = for_good


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered.

    Attributes:
        text: in a few words.
        reached: whether it answered at all.
        not_found: whether it knows no such repository or revision.
        for_good: whether to ask it again is useless.
        wait: seconds after which it wants to be asked again.
    """

    text: str
    reached: bool
    not_found: bool = False
    for_good: bool = False
    wait: float = 0.0

    @classmethod
    def of(cls, error: Exception) -> "Answer":
        """What an error of a request says."""
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

        if isinstance(error, Failed):
            return cls(str(error), reached=True, for_good=error.for_good)
        response = getattr(error, "response", None)
        if response is not None:
            return cls(
                _status(response),
                reached=response.status_code < 500,
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
        return cls(text, reached=name in ("TooManyRedirects", "JSONDecodeError"))


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
        except ValueError:
            return 0.0
