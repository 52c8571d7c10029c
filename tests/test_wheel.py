"""What the wheel holds, and that it installs beside released packages that share a namespace with ours."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: object) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_packages_and_nothing_else(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    packages = {"m3core", "m3stores", "langchain_m3", "llama_index", "m3cli"}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages
    for package in packages:
        source = ROOT / package if package == "m3core" else ROOT / "integrations" / package
        files = {p.relative_to(source.parent).as_posix() for p in source.rglob("*") if p.is_file()}
        assert {f for f in files if "__pycache__" not in f} <= names


def test_the_wheel_has_the_model_the_types_and_both_licences(wheel: Path, names: set[str]) -> None:
    assert {"m3core/mini/model.q4.safetensors", "m3core/mini/m3.json"} <= names
    groups = ["embeddings", "postprocessor", "retrievers", "sparse_embeddings", "vector_stores"]
    leaves = ["m3core", "m3stores", "langchain_m3", *(f"llama_index/{group}/m3" for group in groups), "m3cli"]
    assert {f"{leaf}/py.typed" for leaf in leaves} == {name for name in names if name.endswith("py.typed")}
    (licence,) = (name for name in names if name.endswith("licenses/LICENSE"))
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(licence).decode()
    assert "The m3-retrieval authors" in text
    assert "Microsoft" in text
    assert wheel.stat().st_size < 30e6


def test_the_wheel_leaves_shared_namespaces_alone(names: set[str]) -> None:
    """`llama_index` and its groups are implicit namespaces: one `__init__.py` there breaks every other package."""
    assert [n for n in names if n.startswith("llama_index/")]
    assert not [n for n in names if n.startswith("llama_index/") and n.count("/") < 3]


@pytest.mark.slow
def test_the_wheel_installs_beside_released_packages(wheel: Path, names: set[str], tmp_path: Path) -> None:
    """In a new environment that also sees this one's packages, but not this source tree."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(site) / "outer.pth").write_text(sysconfig.get_path("purelib"))
    code = """
import m3core, m3cli, m3stores, langchain_m3, llama_index.core, llama_index.retrievers.bm25
import llama_index.embeddings.m3, llama_index.retrievers.m3, llama_index.sparse_embeddings.m3
import llama_index.postprocessor.m3, llama_index.vector_stores.m3, llama_index.vector_stores.qdrant
from m3core import M3Encoder
query, = M3Encoder("m3-mini").encode_queries(["谁来监督算法？"]).dense
print(m3core.__file__, llama_index.retrievers.m3.__file__, query.shape, llama_index.core.__version__)
"""
    out = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert out.stdout.startswith(site)
    assert out.stdout.count(site) == 2
    assert "(384,)" in out.stdout
    assert run(tmp_path / "env" / "bin" / "m3", "info").startswith("model")
