"""Whether two collections hold the same."""

import numpy as np
import pytest

from m3core import Record
from m3stores import HybridStore

Content = dict[str, tuple[Record, np.ndarray, dict[int, float], np.ndarray]]


def content(store: HybridStore) -> Content:
    """Records with their representations, by id; each there once."""
    found: Content = {}
    for page in store.scroll(size=500, with_vectors=True):
        output = page.output
        for row, record in enumerate(page.records):
            assert record.id not in found
            rows = output.multivector[row] if output.multivector else np.zeros(0)
            found[record.id] = record, output.dense[row], output.sparse[row].as_dict(), rows
    return found


def assert_same(found: Content, expected: Content) -> None:
    """But for what a store rounds, and for modes that one of them does not have."""
    assert found.keys() == expected.keys()
    for name, (record, dense, sparse, rows) in expected.items():
        assert found[name][0] == record
        np.testing.assert_allclose(found[name][1], dense, atol=1e-5)
        assert found[name][2] == pytest.approx(sparse, rel=1e-3)
        if len(rows) and len(found[name][3]):
            np.testing.assert_allclose(found[name][3], rows, atol=2e-3)
