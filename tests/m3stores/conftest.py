"""Collections of every kind, for the tests that hold every store to the same contract."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from store_home import Home

from m3stores import HybridStore

if TYPE_CHECKING:
    from qdrant_standin.serving import Serving


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
