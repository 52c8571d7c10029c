"""`ChatModel`: any LangChain chat model, by its name."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3core import InvalidInput, M3Error, MissingDependency

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_ENOUGH = 8  # failures in a row; a key is wrong, a server is down
_NEEDED = "a language model needs LangChain: pip install langchain, and its package for the provider"


class ChatModel:
    """Answers prompts. A call that fails gives an empty answer; many in a row end it.

    Attributes:
        failures: how many calls failed so far.
        last_error: of the last one.
    """

    def __init__(self, name: str, *, concurrency: int) -> None:
        """Makes or finds the model.

        Args:
            name: `module:attribute`, where the attribute is a chat model or makes one, the module being installed or in
                the current directory; or `provider:model` for LangChain's `init_chat_model`, as in `openai:gpt-5`.
            concurrency: how many calls at once.

        Raises:
            InvalidInput: the name means no chat model.
            MissingDependency: LangChain, or its package for the provider, is not installed.
        """
        self._model = _found(name) or _made(name)
        self._name, self._concurrency = name, concurrency
        self.failures, self.last_error = 0, ""
        self._in_a_row = 0

    def __call__(self, prompts: list[str]) -> Sequence[str]:
        """The answer to each prompt.

        Raises:
            M3Error: nothing but failures for some time.
        """
        answers = self._model.batch(prompts, {"max_concurrency": self._concurrency}, return_exceptions=True)  # type: ignore[arg-type]
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if errors:
            self.failures += len(errors)
            self.last_error = f"{type(errors[-1]).__name__}: {errors[-1]}"
        self._in_a_row = self._in_a_row + len(errors) if len(errors) == len(prompts) else 0
        if self._in_a_row >= _ENOUGH:
            raise M3Error(
                f"the language model {self._name} answers nothing ({self.last_error}); what it wrote before is kept: "
                "run the command again when it does"
            ) from errors[-1]
        return ["" if isinstance(answer, Exception) else str(answer.text) for answer in answers]


def _found(name: str) -> "BaseChatModel | None":
    """The chat model that a module has under this name, if there are such a module and such an attribute."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise InvalidInput(f"a language model is provider:model or module:attribute, not {name!r}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a command's path begins with its own folder
    try:
        known = find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # of a parent package
        known = False
    found = getattr(import_module(module), attribute, None) if known else None
    if found is None:
        return None
    try:
        from langchain_core.language_models import BaseChatModel
    except ImportError as error:
        raise MissingDependency(_NEEDED) from error
    model = found() if callable(found) and not isinstance(found, BaseChatModel) else found
    if not isinstance(model, BaseChatModel):
        raise InvalidInput(f"{name} is {type(model).__name__}, and neither a LangChain chat model nor makes one")
    return model


def _made(name: str) -> Any:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise MissingDependency(_NEEDED) from error
    try:
        return init_chat_model(name)
    except ImportError as error:
        raise MissingDependency(f"{name}: {_first_line(error)}") from error
    except Exception as error:  # each provider has its own for a key that is missing
        raise InvalidInput(
            f"{name} is neither an attribute of a module nor a model that LangChain can make: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
