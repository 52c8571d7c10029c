import pickle

import pytest
from pydantic import ValidationError

from langchain_m3 import M3Embeddings, M3SparseEmbeddings
from m3core import M3Encoder, UnsupportedMode

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", ""]


async def test_vectors_are_the_encoders(mini: M3Encoder) -> None:
    sparse = M3SparseEmbeddings(model="m3-mini")
    expected = mini.encode_documents(TEXTS).sparse
    for made in (sparse.embed_documents(TEXTS), await sparse.aembed_documents(TEXTS)):
        assert [v.indices for v in made] == [v.indices.tolist() for v in expected]
        assert [v.values for v in made] == [pytest.approx(v.values.tolist(), abs=0.02) for v in expected]
    assert isinstance(made[0].values[0], float)
    assert sparse.embed_query("三") == await sparse.aembed_query("三")
    assert sparse.embed_documents([]) == []


def test_the_same_settings_share_a_model() -> None:
    assert M3SparseEmbeddings(model="m3-mini").encoder is M3Embeddings(model_name="m3-mini").encoder
    assert M3SparseEmbeddings(model="m3-mini", max_length=77).encoder is not M3Embeddings(model="m3-mini").encoder


def test_a_copy_makes_the_same(mini: M3Encoder) -> None:
    sparse = M3SparseEmbeddings(model="m3-mini")
    assert pickle.loads(pickle.dumps(sparse)).embed_query("x") == sparse.embed_query("x")
    assert M3SparseEmbeddings.from_encoder(mini).encoder is mini


def test_a_dense_model_and_unknown_fields_are_refused(m3e_dir: object) -> None:
    with pytest.raises(UnsupportedMode, match="no sparse"):
        M3SparseEmbeddings(model=str(m3e_dir)).embed_query("x")
    with pytest.raises(ValidationError):
        M3SparseEmbeddings(modle="m3-mini")
