"""Made-up representations, for tests of stores: no model is needed to keep and find vectors."""

import numpy as np

from m3core import Fingerprint, M3Output, Mode, Record, SparseVector

DIM, ROW_DIM, VOCABULARY = 16, 8, 60
WEIGHTS = (1.0, 0.3, 0.5)


def fingerprint(model: str = "random", **changes: object) -> Fingerprint:
    values = {
        "model": model,
        "revision": "1",
        "modes": ("dense", "sparse", "multivector"),
        "dense_dim": DIM,
        "multivector_dim": ROW_DIM,
        "pooling": "cls",
        "normalize": True,
        "max_length": 512,
    }
    return Fingerprint(**(values | changes))


KNOWN = fingerprint()


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random_output(
    n: int,
    seed: int = 0,
    modes: tuple[Mode, ...] = ("dense", "sparse", "multivector"),
    made_by: Fingerprint | None = KNOWN,
    dim: int = DIM,
) -> M3Output:
    """Of `n` texts. Multi-vectors are numbers that float16 holds, as a store may keep them so."""
    rng = np.random.default_rng(seed)
    ids = [np.sort(rng.choice(VOCABULARY, rng.integers(1, 12), replace=False)) for _ in range(n)]
    rows = [unit(rng, int(rng.integers(1, 6)), ROW_DIM).astype(np.float16).astype(np.float32) for _ in range(n)]
    return M3Output(
        unit(rng, n, dim) if "dense" in modes else None,
        [SparseVector(i, rng.random(len(i), dtype=np.float32) + 0.01) for i in ids] if "sparse" in modes else None,
        rows if "multivector" in modes else None,
        WEIGHTS,
        made_by,
    )


def records(n: int, first: int = 0) -> list[Record]:
    return [
        Record(f"doc {i}", f"text {i}", {"number": i, "side": "pro" if i % 2 else "con"})
        for i in range(first, first + n)
    ]
