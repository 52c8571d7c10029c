"""Every kind of store gives the representations of its records by one mode."""

import numpy as np
import pytest
from store_reference import ALL, made, part
from vectors import records

from m3core import Mode, SparseVector, UnsupportedMode

N = 150  # more multi-vectors than come in one answer


@pytest.mark.parametrize("mode", ALL)
def test_they_are_what_was_stored(home, mode: Mode) -> None:
    store, reference = home.open(), home.reference()
    store.upsert(records(N), made(N, empty=True))
    reference.upsert(records(N), made(N, empty=True))
    ids = [f"doc {n}" for n in range(N - 1, -1, -1)]
    found = store.vectors([ids[0], "missing", *ids], mode)
    assert list(found) == ids
    for i, values in found.items():
        (wanted,) = getattr(reference.kept[i], mode)
        if mode == "sparse":
            assert isinstance(values, SparseVector)
            assert values.as_dict() == wanted.as_dict()
        else:
            assert (values.dtype, values.shape) == (np.float32, wanted.shape)
            np.testing.assert_array_equal(values, wanted)
    assert store.vectors(["missing"], mode) == store.vectors([], mode) == {}


def test_by_a_mode_that_the_collection_lacks(home) -> None:
    store = home.open()
    store.upsert(records(2), part(made(2), ["sparse"]))
    assert list(store.vectors(["doc 1"], "sparse")) == ["doc 1"]
    for mode in ("dense", "multivector", "colbert"):
        with pytest.raises(UnsupportedMode, match=f"has no {mode} representations; it has sparse"):
            store.vectors(["doc 1"], mode)


def test_of_thousands_of_records(home) -> None:
    store, output = home.open(), made(2500)
    store.upsert(records(2500), output)
    found = store.vectors([f"doc {n}" for n in range(2500)], "dense")
    np.testing.assert_array_equal(np.stack(list(found.values())), output.dense)
