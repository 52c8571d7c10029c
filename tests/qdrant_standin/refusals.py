"""What the server says no with."""

from collections.abc import Callable
from typing import Any


class Refusal(Exception):
    """An HTTP status and Qdrant's text for it. gRPC has its own name for each status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def bad_input(message: str) -> Refusal:
    """Seen when the operation is applied: a server does not tell a client that does not wait."""
    return Refusal(400, f"Wrong input: {message}")


def bad_format(message: str) -> Refusal:
    """Seen when the body is read."""
    return Refusal(400, f"Format error in JSON body: {message}")


def invalid(where: str, message: str) -> Refusal:
    """Seen when the body is checked, before anything else happens."""
    return Refusal(422, f"Validation error in JSON body: [{where}: {message}]")


def unsupported(what: str) -> Refusal:
    """A real server may well do it: a test that needs it has to extend the stand-in."""
    return Refusal(501, f"The stand-in has no {what}")


def engine(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Calls the engine; what it raises becomes what the server answers."""
    try:
        return call(*args, **options)
    except Exception as error:
        text = str(error)
        if text.startswith("No point with id"):
            raise Refusal(404, f"Not found: {text} found") from error
        raise bad_input(text) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise Refusal(500, f"Service internal error: {error}") from error
