import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_home import Home
from store_kinds import KINDS, Kind, Open
from tiny import save_m3, save_m3e
from transformers.utils import logging

from m3core import M3Encoder

ROOT = Path(__file__).parent.parent
logging.disable_progress_bar()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests take minutes before they count as hanging."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def m3_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny XLM-R with both heads, FlagEmbedding's layout. Do not change it."""
    return save_m3(tmp_path_factory.mktemp("m3"))


@pytest.fixture(scope="session")
def m3e_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny BERT, sentence-transformers' layout. Do not change it."""
    return save_m3e(tmp_path_factory.mktemp("m3e"))


@pytest.fixture(scope="session")
def tiny_m3(m3_dir: Path) -> M3Encoder:
    return M3Encoder(m3_dir, dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def mini() -> M3Encoder:
    """The bundled model with default arguments."""
    return M3Encoder("m3-mini")


@pytest.fixture(scope="session")
def debate() -> Path:
    return ROOT / "examples" / "data" / "debate"


@pytest.fixture(scope="session")
def debate_texts(debate: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (debate / "corpus.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="session")
def debate_queries(debate: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (debate / "queries.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="session")
def eval_set() -> Callable[[str], Path]:
    """A folder of the judged sets in `M3_EVAL_DIR`; the test is skipped where there are none."""

    def find(name: str) -> Path:
        folder = os.environ.get("M3_EVAL_DIR")
        if not folder:
            pytest.skip("M3_EVAL_DIR names no judged sets")
        return Path(folder) / name

    return find


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.name)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kind, Open]]:
    """Each kind of store in turn, with whatever it needs running."""
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
