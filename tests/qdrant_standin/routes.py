"""Qdrant's HTTP routes: which call of the backend answers which."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from qdrant_standin.backend import Backend
from qdrant_standin.refusals import Refusal

VERSION = {"title": "qdrant - vector search engine", "version": "1.20.0"}
_UPDATES = {
    ("PUT", "points"): "upsert",
    ("POST", "points/delete"): "delete",
    ("PUT", "points/vectors"): "update_vectors",
    ("POST", "points/vectors/delete"): "delete_vectors",
    ("POST", "points/payload"): "set_payload",
    ("PUT", "points/payload"): "overwrite_payload",
    ("POST", "points/payload/delete"): "delete_payload",
    ("POST", "points/payload/clear"): "clear_payload",
}


class Call(NamedTuple):
    """A request, as its route's function gets it."""

    backend: Backend
    name: str  # of the collection
    part: str  # of the path, after the collection's own parts: a vector's name, a field, an id
    body: Any
    wait: bool


def answer(backend: Backend, method: str, path: str, body: Any, wait: bool) -> Any:
    """The result of a request.

    Raises:
        Refusal: what the server refuses, and 404 for what is no route.
    """
    for (wanted, pattern), act in _ROUTES.items():
        found = re.fullmatch(pattern, path) if wanted == method else None
        if found:
            name, part = (*(unquote(group) for group in found.groups()), "", "")[:2]
            return act(Call(backend, name, part, body, wait))
    raise Refusal(404, f"The stand-in has no route {method} {path}")


def _update(kind: str) -> Callable[[Call], Any]:
    return lambda call: call.backend[call.name].update([{kind: call.body}], call.wait)[0]


def _point(call: Call) -> dict[str, Any]:
    i = int(call.part) if call.part.isdecimal() else call.part
    found = call.backend[call.name].retrieve({"ids": [i], "with_vector": True})
    if not found:
        raise Refusal(404, f"Not found: Point with id {i} does not exists!")
    return found[0]


def _patch(call: Call) -> bool:
    call.backend[call.name].patch(call.body)
    return True


_ONE = "/collections/([^/]+)"
_ROUTES: dict[tuple[str, str], Callable[[Call], Any]] = {
    ("GET", "/collections"): lambda call: {"collections": [{"name": name} for name in call.backend.names()]},
    ("POST", "/collections/aliases"): lambda call: call.backend.change_aliases(call.body["actions"]),
    ("GET", "/aliases"): lambda call: call.backend.aliases(),
    ("GET", _ONE): lambda call: call.backend[call.name].info(),
    ("PUT", _ONE): lambda call: call.backend.create(call.name, call.body),
    ("PATCH", _ONE): _patch,
    ("DELETE", _ONE): lambda call: call.backend.delete(call.name),
    ("GET", f"{_ONE}/exists"): lambda call: {"exists": call.backend.exists(call.name)},
    ("GET", f"{_ONE}/aliases"): lambda call: call.backend.aliases(call.name),
    ("PUT", f"{_ONE}/index"): lambda call: call.backend[call.name].create_index(call.body),
    ("DELETE", f"{_ONE}/index/([^/]+)"): lambda call: call.backend[call.name].delete_index(call.part),
    ("PUT", f"{_ONE}/vectors/([^/]+)"): lambda call: call.backend[call.name].create_vector(call.part, call.body),
    ("DELETE", f"{_ONE}/vectors/([^/]+)"): lambda call: call.backend[call.name].delete_vector(call.part),
    ("POST", f"{_ONE}/points"): lambda call: call.backend[call.name].retrieve(call.body),
    ("POST", f"{_ONE}/points/scroll"): lambda call: call.backend[call.name].scroll(call.body),
    ("POST", f"{_ONE}/points/count"): lambda call: call.backend[call.name].count(call.body),
    ("POST", f"{_ONE}/points/query"): lambda call: call.backend[call.name].query([call.body])[0],
    ("POST", f"{_ONE}/points/query/batch"): lambda call: call.backend[call.name].query(call.body["searches"]),
    ("POST", f"{_ONE}/points/batch"): lambda call: call.backend[call.name].update(call.body["operations"], call.wait),
    **{(method, f"{_ONE}/{path}"): _update(kind) for (method, path), kind in _UPDATES.items()},
    ("GET", f"{_ONE}/points/([^/]+)"): _point,
}
