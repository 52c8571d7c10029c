"""The collections by name, their aliases, and what both front ends ask for."""

import shutil
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from qdrant_standin.collection import Collection
from qdrant_standin.refusals import Refusal, bad_input

_FORBIDDEN = frozenset('<>:"/\\|?*\0')


class Backend:
    """Requests and answers are the JSON values of Qdrant's HTTP interface. A context manager."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="qdrant-standin-"))
        self._collections: dict[str, Collection] = {}
        self._aliases: dict[str, str] = {}
        self._created = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the shards and removes them."""
        with self._lock:
            for collection in self._collections.values():
                collection.close()
            self._collections.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __getitem__(self, name: str) -> Collection:
        """The collection of a name or an alias."""
        with self._lock:
            collection = self._collections.get(self._aliases.get(name, name))
        if collection is None:
            raise _unknown(name)
        return collection

    def exists(self, name: str) -> bool:
        with self._lock:
            return self._aliases.get(name, name) in self._collections

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._collections)

    def create(self, name: str, request: dict[str, Any]) -> bool:
        if not 1 <= len(name) <= 255 or _FORBIDDEN & set(name):
            raise Refusal(422, f"Validation error in path parameters: [name: {name!r} cannot be a collection's name]")
        with self._lock:
            if name in self._collections:
                raise _exists(name)
            if name in self._aliases:
                raise bad_input(f"Can't create collection with name {name}. Alias with the same name already exists")
            self._created += 1  # a new folder for each: an old one of the same name may be on its way out
            self._collections[name] = Collection(request, self._folder / str(self._created))
        return True

    def delete(self, name: str) -> bool:
        """By the name itself: an alias is not followed, and an unknown name is no error."""
        with self._lock:
            collection = self._collections.pop(name, None)
            self._aliases = {alias: target for alias, target in self._aliases.items() if target != name}
        if collection is not None:
            collection.close()
        return collection is not None

    def aliases(self, name: str | None = None) -> dict[str, Any]:
        """All aliases, or those of one collection."""
        if name is not None and not self.exists(name):
            raise _unknown(name)
        with self._lock:
            found = sorted(self._aliases.items())
        return {"aliases": [{"alias_name": a, "collection_name": c} for a, c in found if name in (None, c)]}

    def change_aliases(self, actions: Iterable[dict[str, Any]]) -> bool:
        """All at once: another call sees either none of the changes or all."""
        with self._lock:
            aliases = dict(self._aliases)
            for action in actions:
                self._change_alias(aliases, action)
            self._aliases = aliases
        return True

    def _change_alias(self, aliases: dict[str, str], action: dict[str, Any]) -> None:
        match action:
            case {"create_alias": {"alias_name": alias, "collection_name": target}}:
                if target not in self._collections:
                    raise _unknown(target)
                if alias in self._collections:
                    raise _exists(alias)
                aliases[alias] = target
            case {"delete_alias": {"alias_name": alias}}:
                aliases.pop(alias, None)
            case {"rename_alias": {"old_alias_name": old, "new_alias_name": new}}:
                if old not in aliases:
                    raise Refusal(404, f"Not found: Alias {old} does not exists!")
                aliases[new] = aliases.pop(old)


def _unknown(name: str) -> Refusal:
    return Refusal(404, f"Not found: Collection `{name}` doesn't exist!")


def _exists(name: str) -> Refusal:
    return Refusal(409, f"Wrong input: Collection `{name}` already exists!")
