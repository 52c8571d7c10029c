import subprocess
import sys

import m3core

PUBLIC = {
    "DBSF", "MODES", "RRF", "DownloadFailed", "Fingerprint", "Fusion", "InvalidInput", "InvalidModel", "M3Encoder",
    "M3Error", "M3Output", "M3Warning", "MissingDependency", "Mode", "ModelNotFound", "OutOfMemory", "SparseVector",
    "Token", "TokenWeight", "TruncationWarning", "UnknownTokensWarning", "UnsupportedMode", "WeightedSum",
    "compute_score", "fuse",
}  # fmt: skip


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_public_names_are_these() -> None:
    assert set(m3core.__all__) == PUBLIC
    assert all(getattr(m3core, name) is not None for name in PUBLIC)


def test_importing_loads_neither_torch_nor_transformers() -> None:
    loaded = run("import sys, m3core; m3core.M3Encoder, m3core.M3Output, m3core.fuse; print(*sys.modules)").split()
    assert not {"torch", "transformers", "scipy", "huggingface_hub"} & set(loaded)


def test_a_missing_extra_says_how_to_install_it() -> None:
    code = """
import sys
sys.modules["bm25s"] = sys.modules["ir_measures"] = None
from m3core import MissingDependency
from m3core.evaluation import BM25, measure
for use in (lambda: BM25(["a"]), lambda: measure({}, {}, [])):
    try:
        use()
    except MissingDependency as error:
        print(error)
"""
    assert run(code).count("pip install 'm3-retrieval[eval]'") == 2
