"""Requests and answers held against Qdrant's published API description (OpenAPI 3.0).

Stricter than a server: a property that the description does not list is a violation too, since a server may well drop
it without a word.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

_ANNOTATIONS = {"description", "default", "example", "nullable"}  # say nothing of what a value may be
_METHODS = {"get", "put", "post", "patch", "delete"}


class OpenApi:
    """The description in a file."""

    def __init__(self, path: str | Path) -> None:
        document = json.loads(Path(path).read_text("utf-8"))
        self._validator = Draft202012Validator({"components": _strict(document["components"])})
        self._operations = [
            (method.upper(), re.compile(re.sub(r"\{[^}]+\}", "[^/]+", route)), operation)
            for route, operations in sorted(document["paths"].items(), key=lambda item: item[0].count("{"))
            for method, operation in operations.items()
            if method in _METHODS
        ]

    def check_request(self, method: str, path: str, query: str, body: Any) -> list[str]:
        """What is wrong with a request; `body` is None where there is none."""
        operation = self._operation(method, path)
        if operation is None:
            return [f"{method} {path} is not in the API description"]
        named = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"}
        wrong = [f"{method} {path}: unknown parameter {name}" for name in parse_qs(query).keys() - named]
        schema = _schema(operation.get("requestBody"))
        if schema is None:
            return wrong if body is None else [*wrong, f"{method} {path} takes no body"]
        if body is None and not operation["requestBody"].get("required"):
            return wrong
        return wrong + self._violations(f"{method} {path}", schema, body)

    def check_answer(self, method: str, path: str, body: Any) -> list[str]:
        """What is wrong with the answer to a request that succeeded."""
        operation = self._operation(method, path)
        schema = _schema(operation["responses"].get("200")) if operation else None
        return [] if schema is None else self._violations(f"Answer to {method} {path}", schema, body)

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        found = (o for wanted, route, o in self._operations if wanted == method and route.fullmatch(path))
        return next(found, None)

    def _violations(self, where: str, schema: Any, body: Any) -> list[str]:
        error = best_match(self._validator.evolve(schema=_strict(schema)).iter_errors(_shortened(body)))
        return [] if error is None else [f"{where}: {error.json_path}: {error.message[:300]}"]


@cache
def load(path: str | Path) -> OpenApi:
    """The same for each path: reading the description takes a while."""
    return OpenApi(path)


def _schema(part: dict[str, Any] | None) -> Any:
    return (part or {}).get("content", {}).get("application/json", {}).get("schema")


def _strict(node: Any) -> Any:
    """OpenAPI 3.0's schemas as JSON Schema has them, closed to properties that they do not list."""
    if isinstance(node, list):
        return [_strict(part) for part in node]
    if not isinstance(node, dict):
        return node
    strict = {key: _strict(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and "type" in node:
        strict.setdefault("additionalProperties", False)
    if node.get("nullable") is True:
        return {"anyOf": [strict, {"type": "null"}]} if strict.keys() - _ANNOTATIONS else {"type": "null"}
    return strict


def _shortened(value: Any) -> Any:
    """The same value with lists of numbers cut down to one of each kind: a batch of vectors is checked in no time."""
    if isinstance(value, dict):
        return {key: _shortened(part) for key, part in value.items()}
    if not isinstance(value, list):
        return value
    if not all(type(part) in (int, float) for part in value):
        return [_shortened(part) for part in value]
    return list({(type(part), part < 0, part == 0): part for part in value}.values())
