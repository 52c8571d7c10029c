import pickle
from pathlib import Path

import pytest
from counting import counted_passes
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from langchain_m3 import M3Embeddings
from m3core import InvalidInput, M3Encoder
from m3core.hub import locate


@pytest.fixture(scope="module")
def embeddings() -> M3Embeddings:
    return M3Embeddings(model="m3-mini")


def test_vectors_are_the_encoders(embeddings: M3Embeddings, mini: M3Encoder) -> None:
    vectors = embeddings.embed_documents(["一", "two"])
    assert vectors == mini.encode_documents(["一", "two"]).dense.tolist()
    assert isinstance(vectors[0][0], float)
    assert embeddings.embed_query("三") == mini.encode_queries(["三"]).dense[0].tolist()
    assert embeddings.embed_documents([]) == []


async def test_async_gives_the_same(embeddings: M3Embeddings) -> None:
    assert await embeddings.aembed_documents(["一", "two"]) == embeddings.embed_documents(["一", "two"])
    assert await embeddings.aembed_query("三") == embeddings.embed_query("三")


def test_nothing_loads_before_the_first_text() -> None:
    embeddings = M3Embeddings(model="./no-such-model")
    with pytest.raises(Exception, match="no-such-model"):
        embeddings.embed_query("x")


def test_the_fields_reach_the_encoder() -> None:
    embeddings = M3Embeddings(
        model_name="m3-mini", device="cpu", dtype="float32", max_length=16, normalize=False, query_instruction="query: "
    )
    encoder = embeddings.encoder
    assert encoder is embeddings.encoder
    assert (encoder.dtype, encoder.max_length) == ("float32", 16)
    assert (encoder.fingerprint.normalize, encoder.fingerprint.instruction) == (False, "query: ")


def test_cls_tokens_within_long_texts(m3_dir: Path) -> None:
    embeddings = M3Embeddings(model=str(m3_dir), mcls=4)
    assert embeddings.encoder.fingerprint.mcls == 4
    assert M3Embeddings.from_encoder(embeddings.encoder).mcls == 4
    for bad in (True, "4"):
        with pytest.raises(ValidationError):
            M3Embeddings(mcls=bad)


def test_every_field_of_loading_reaches_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict = {}
    monkeypatch.setattr("m3core.encoder.locate", lambda model, **given: asked.update(given) or locate(model, **given))
    settings = {
        "endpoint": "http://localhost:9",
        "revision": "v1",
        "batch_tokens": 512,
        "cache_folder": tmp_path,
        "local_files_only": True,
    }
    embeddings = M3Embeddings(model="m3-mini", token="hf_secret", cache=tmp_path / "vectors.sqlite", **settings)
    given = embeddings.encoder.arguments
    assert {name: given[name] for name in settings} == settings | {"cache_folder": str(tmp_path)}
    assert asked["token"] == "hf_secret"
    assert asked["local_files_only"]
    assert (asked["revision"], asked["endpoint"], asked["cache_folder"]) == ("v1", "http://localhost:9", str(tmp_path))
    assert embeddings.encoder.cache.path == tmp_path / "vectors.sqlite"
    assert "hf_secret" not in f"{given} {embeddings!r} {embeddings.model_dump()} {embeddings.model_dump_json()}"


def test_all_modes_of_one_pass(embeddings: M3Embeddings) -> None:
    with counted_passes() as passes:
        output = embeddings.encode(["一", "two"])
        assert output.modes == ("dense", "sparse", "multivector")
        assert embeddings.encode(["三"], queries=True).dense.tolist() == [embeddings.embed_query("三")]
    assert passes.texts == 4


def test_around_an_encoder(mini: M3Encoder) -> None:
    embeddings = M3Embeddings.from_encoder(mini, show_progress=True)
    assert embeddings.encoder is mini
    assert (embeddings.model_name, embeddings.show_progress) == ("m3-mini", True)


def test_unknown_fields_and_bad_texts_are_refused(embeddings: M3Embeddings) -> None:
    with pytest.raises(ValidationError):
        M3Embeddings(modle="m3-mini")
    with pytest.raises(InvalidInput):
        embeddings.embed_documents("one text")


def test_a_copy_loads_its_own_model(embeddings: M3Embeddings) -> None:
    embeddings.embed_query("一")
    copy = pickle.loads(pickle.dumps(embeddings))
    assert copy.embed_query("一") == embeddings.embed_query("一")


def test_in_a_vector_store(embeddings: M3Embeddings) -> None:
    store = InMemoryVectorStore.from_texts(["巴黎是法国的首都。", "Bananas are yellow."], embeddings)
    assert store.similarity_search("法国首都在哪里？", k=1)[0].page_content == "巴黎是法国的首都。"


def test_settings_that_change_make_another_encoder(embeddings: M3Embeddings) -> None:
    changed = embeddings.model_copy(update={"max_length": 8})
    assert changed.encoder.max_length == 8
    changed.max_length = 16
    assert changed.encoder.max_length == 16
    assert embeddings.model_copy().encoder is embeddings.model_copy(deep=True).encoder is embeddings.encoder
    shown = embeddings.model_copy(update={"show_progress": True})
    assert shown.encoder is embeddings.encoder
