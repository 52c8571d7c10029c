import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3core import Fingerprint, InvalidInput, M3Output, SparseVector
from m3core.output import Mode

FINGERPRINT = Fingerprint("tiny", "abc", ("dense", "sparse", "multivector"), 4, 3, "cls", True, 128, "问：")


def sparse(*indices: int) -> SparseVector:
    return SparseVector(np.array(indices), np.arange(1, len(indices) + 1) / 7)


def make(n: int, seed: int = 0, modes: tuple[Mode, ...] = ("dense", "sparse", "multivector")) -> M3Output:
    rng = np.random.default_rng(seed)
    return M3Output(
        rng.standard_normal((n, 4)).astype(np.float32) if "dense" in modes else None,
        [sparse(*np.flatnonzero(rng.random(20) < 0.3)) for _ in range(n)] if "sparse" in modes else None,
        [rng.standard_normal((t, 3)).astype(np.float32) for t in rng.integers(0, 5, n)]
        if "multivector" in modes
        else None,
        (1.0, 0.3, 1.0),
        FINGERPRINT,
    )


def same(a: M3Output, b: M3Output) -> bool:
    return (
        a.modes == b.modes
        and len(a) == len(b)
        and (a.score_weights, a.fingerprint) == (b.score_weights, b.fingerprint)
        and (a.dense is None or b.dense is None or bool((a.dense == b.dense).all()))
        and all(x.as_dict() == y.as_dict() for x, y in zip(a.sparse or (), b.sparse or (), strict=True))
        and all(
            x.dtype == y.dtype and np.array_equal(x, y)
            for x, y in zip(a.multivector or (), b.multivector or (), strict=True)
        )
    )


@pytest.mark.parametrize("modes", [("dense",), ("sparse",), ("multivector",), ("dense", "sparse", "multivector")])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_save_and_load_lose_nothing(tmp_path, modes: tuple[Mode, ...], n: int) -> None:
    output = make(n, modes=modes)
    output.save(tmp_path / "out.safetensors")
    assert same(M3Output.load(tmp_path / "out.safetensors"), output)
    assert [p.name for p in tmp_path.iterdir()] == ["out.safetensors"]


def test_load_refuses_other_files(tmp_path) -> None:
    from safetensors.numpy import save_file

    save_file({"dense": np.zeros((1, 2))}, tmp_path / "other.safetensors")
    (tmp_path / "junk").write_bytes(b"no safetensors")
    for name in ("other.safetensors", "junk"):
        with pytest.raises(InvalidInput, match=r"not a file that M3Output\.save wrote"):
            M3Output.load(tmp_path / name)


@given(st.integers(1, 6), st.data())
def test_slices_joined_give_the_whole(n: int, data: st.DataObject) -> None:
    output = make(n)
    cut = data.draw(st.integers(0, n))
    assert same(M3Output.concat([output[:cut], output[cut:]]), output)
    assert same(M3Output.concat(iter(output)), output)


def test_indexing_selects_texts() -> None:
    output = make(5)
    assert same(output[-1], output[4:])
    assert same(output[[4, 1]], M3Output.concat([output[4], output[1]]))
    assert same(output[(4, 1)], output[[4, 1]])
    assert same(output[np.array([True, False, True, False, False])], output[[0, 2]])
    with pytest.raises(IndexError, match="text 5 of an M3Output with 5 texts"):
        output[5]


def test_outputs_of_different_models_are_not_joined() -> None:
    other = M3Output(np.zeros((1, 4), np.float32), fingerprint=None)
    with pytest.raises(InvalidInput, match="different fingerprint"):
        M3Output.concat([M3Output(np.zeros((1, 4), np.float32), fingerprint=FINGERPRINT), other])
    with pytest.raises(InvalidInput, match="different modes"):
        M3Output.concat([make(1), other])
    with pytest.raises(InvalidInput, match="at least one"):
        M3Output.concat([])


def test_modes_must_agree_in_length() -> None:
    with pytest.raises(InvalidInput, match="as many items in each"):
        M3Output(np.zeros((2, 4), np.float32), [sparse(1)])
    with pytest.raises(InvalidInput, match="at least one mode"):
        M3Output()
    with pytest.raises(InvalidInput, match=r"shape \(n, d\)"):
        M3Output(np.zeros(4, np.float32))
    with pytest.raises(InvalidInput, match="one d for all"):
        M3Output(multivector=[np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32)])


@pytest.mark.parametrize(
    ("indices", "values"),
    [
        ([2**32 + 5], [1.0]),
        ([1.5], [1.0]),
        ([1, 2], [1.0]),
        ([2, 1], [1.0, 1.0]),
        ([1, 1], [1.0, 1.0]),
        ([-1], [1.0]),
        ([[1]], [[1.0]]),
    ],
)
def test_a_sparse_vector_refuses_what_no_store_takes(indices: list[int], values: list[float]) -> None:
    with pytest.raises(InvalidInput, match="SparseVector"):
        SparseVector(np.array(indices), np.array(values))
