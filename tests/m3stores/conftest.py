"""Collections of every kind, for the tests that hold every store to the same contract."""

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from store_kinds import KINDS, Kind, Open, unique_name
from store_reference import Reference

from m3stores import HybridStore

if TYPE_CHECKING:
    from qdrant_standin.serving import Serving


class Home:
    """A name for a collection, and what opens it. Whatever was opened is closed, and the collection dropped."""

    def __init__(self, kind: Kind, opens: Open) -> None:
        self.kind, self._opens = kind, opens
        self.name = unique_name()
        self._opened: list[HybridStore] = []

    def open(self) -> HybridStore:
        """The collection; of a temporary kind, a new one each time."""
        self._opened.append(self._opens(self.name))
        return self._opened[-1]

    def reference(self) -> Reference:
        """An empty one, that keeps what this kind keeps."""
        return Reference(self.kind.half, self.kind.half_queries)

    def leave(self) -> None:
        for store in self._opened:
            store.close()
        if self.kind.lasting:
            with self._opens(self.name) as store:
                store.drop()


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.name)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kind, Open]]:
    """Each kind in turn, with whatever it needs running."""
    kind: Kind = request.param
    for package in kind.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{kind.name} needs {package}")
    with kind.place(tmp_path_factory.mktemp("stores")) as opens:
        yield kind, opens


@pytest.fixture
def home(place: tuple[Kind, Open]) -> Iterator[Home]:
    """Room for one collection."""
    home = Home(*place)
    yield home
    home.leave()


@pytest.fixture
def fresh(home: Home) -> HybridStore:
    """An open store whose collection is not there yet."""
    return home.open()


@pytest.fixture(params=["rest", "grpc"])
def server(request: pytest.FixtureRequest) -> "Iterator[Serving]":
    """The stand-in for a Qdrant server, as a store talks to it."""
    from qdrant_standin.serving import serving

    with serving(request.param) as served:
        yield served
