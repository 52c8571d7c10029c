"""FlagEmbedding's outputs for tiny random models, computed text by text, and ours, from one pack of all texts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from m3core import M3Encoder, M3Output
from m3core.errors import TruncationWarning
from m3core.output import FloatArray
from m3core.scoring import compute_score

GOLDENS = Path(__file__).parent / "goldens"
TEXTS: dict[str, str] = json.loads((GOLDENS.parent / "texts.json").read_text(encoding="utf-8"))
NAMES = list(TEXTS)
TOLERANCE = 1e-5
NEARLY_ZERO = 1e-6  # a lexical weight this small may be on either side of the ReLU's zero


def read_json(name: str) -> Any:
    return json.loads((GOLDENS / name).read_text(encoding="utf-8"))


@dataclass(frozen=True, eq=False)
class Reference:
    """What FlagEmbedding's `encode` returned, text by text."""

    dense: FloatArray
    sparse: list[dict[int, float]]
    multivector: list[FloatArray]

    @classmethod
    def read(cls, name: str) -> "Reference":
        stored = load_file(GOLDENS / f"{name}.safetensors")
        cuts = np.cumsum(stored["sparse.lengths"])[:-1]
        ids, weights = (np.split(stored[part], cuts) for part in ("sparse.ids", "sparse.weights"))
        sparse = [dict(zip(i.tolist(), w.tolist(), strict=True)) for i, w in zip(ids, weights, strict=True)]
        rows = np.split(stored["multivector.rows"], np.cumsum(stored["multivector.lengths"])[:-1])
        return cls(stored["dense"], sparse, rows)


@dataclass(frozen=True, eq=False)
class Case:
    """The same texts, encoded by FlagEmbedding and by us."""

    expected: Reference
    dense: FloatArray
    sparse: list[dict[int, float]]
    multivector: Sequence[FloatArray]


@pytest.fixture(scope="module", params=["flag_m3", "flag_m3_dim16", "flag_m3_cut"])
def case(request: pytest.FixtureRequest) -> Case:
    output = encoded(request.param)
    assert output.dense is not None
    assert output.sparse is not None
    assert output.multivector is not None
    sparse = [vector.as_dict() for vector in output.sparse]
    return Case(Reference.read(request.param), output.dense, sparse, output.multivector)


@cache
def encoded(name: str) -> M3Output:
    """All texts in one pack; `flag_m3_cut` is `flag_m3` at 16 tokens a text."""
    path = GOLDENS / name.removesuffix("_cut")
    encoder = M3Encoder(path, dtype="float32", device="cpu", engine="torch", batch_tokens=1_000_000)
    if not name.endswith("_cut"):
        return encoder.encode_documents(TEXTS.values())
    with pytest.warns(TruncationWarning):
        return encoder.encode_documents(TEXTS.values(), max_length=16)


def test_dense_vectors_are_the_same(case: Case) -> None:
    np.testing.assert_allclose(case.dense, case.expected.dense, rtol=0, atol=TOLERANCE)


def test_multi_vectors_have_a_row_for_the_same_tokens(case: Case) -> None:
    assert {name: len(rows) for name, rows in zip(NAMES, case.multivector, strict=True)} == {
        name: len(rows) for name, rows in zip(NAMES, case.expected.multivector, strict=True)
    }


def test_multi_vectors_are_the_same(case: Case) -> None:
    got, expected = np.concatenate(case.multivector), np.concatenate(case.expected.multivector)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def test_lexical_weights_are_for_the_same_tokens(case: Case) -> None:
    for name, got, expected in zip(NAMES, case.sparse, case.expected.sparse, strict=True):
        only_one_has = {token: {**got, **expected}[token] for token in got.keys() ^ expected.keys()}
        assert all(0 < weight <= NEARLY_ZERO for weight in only_one_has.values()), (name, only_one_has)


def test_lexical_weights_are_the_same(case: Case) -> None:
    for got, expected in zip(case.sparse, case.expected.sparse, strict=True):
        common = sorted(got.keys() & expected.keys())
        np.testing.assert_allclose([got[i] for i in common], [expected[i] for i in common], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("score", ["dense", "sparse", "colbert", "sparse+dense", "colbert+sparse+dense"])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.4, 0.2, 0.4)])
@pytest.mark.parametrize("name", ["flag_m3", "flag_m3_dim16"])
def test_scores_of_pairs_are_the_same(name: str, weights: tuple[float, float, float], score: str) -> None:
    stored = read_json(f"{name}_scores.json")
    expected = next(result[score] for result in stored["results"] if result["weights"] == list(weights))
    queries, documents = ([NAMES.index(pair[side]) for pair in stored["pairs"]] for side in (0, 1))
    output = encoded(name)
    got = compute_score(output[queries], output[documents], weights=weights)[score]
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("golden", read_json("maxsim_padding.json"), ids=lambda g: f"{g['query']}-{g['document']}")
def test_maxsim_is_of_the_document_and_not_of_its_padding(golden: dict[str, Any]) -> None:
    """Where FlagEmbedding does not agree with itself, and we are with its `colbert_score`.

    A document that shares a batch with a longer one is padded with zero vectors, and these take part in the maximum:
    no query token then scores below 0. `colbert_score` of what `encode` returns has no padding.
    """
    output = encoded("flag_m3")
    query, document = (output[NAMES.index(golden[side])] for side in ("query", "document"))
    ours = compute_score(query, document)["colbert"][0]
    assert ours == pytest.approx(golden["unpadded"], rel=0, abs=TOLERANCE)
    assert golden["padded"] - golden["unpadded"] > 0.01
