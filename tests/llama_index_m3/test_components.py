"""Sparse embeddings, and what all components with a model have in common."""

import pickle

import pytest
from counting import counted_ticks
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import ValidationError

from llama_index.embeddings.m3 import M3Embedding
from llama_index.postprocessor.m3 import M3Rerank
from llama_index.sparse_embeddings.m3 import M3SparseEmbedding
from m3core import InvalidInput, M3Encoder
from m3core.hub import locate
from m3core.lazy import LazyEncoder

TEXTS = ["巴黎是法国的首都。", "Tokyo is the capital of Japan.", "Bananas are yellow.", "东京塔很高，首都也在那里。"]
QUERY = "capital 首都"
NODES = [NodeWithScore(node=TextNode(text=text, id_=text)) for text in TEXTS]
SECRET = "hf_" + "s3cret" * 4
COMPONENTS = [M3Embedding, M3SparseEmbedding, M3Rerank]


@pytest.fixture(scope="module")
def sparse() -> M3SparseEmbedding:
    return M3SparseEmbedding("m3-mini")


async def test_sparse_embeddings_are_the_encoders(sparse, mini, call) -> None:
    expected = [vector.as_dict() for vector in mini.encode_documents(TEXTS).sparse]
    assert all(expected)
    assert await call(sparse, "get_text_embedding_batch", TEXTS) == expected
    assert await call(sparse, "get_text_embedding", TEXTS[1]) == expected[1]
    assert await call(sparse, "get_query_embedding", QUERY) == mini.encode_queries([QUERY]).sparse[0].as_dict()
    assert await call(sparse, "get_text_embedding_batch", []) == []
    assert await call(sparse.model_copy(update={"embed_batch_size": 1}), "get_text_embedding_batch", TEXTS) == expected


def test_sparse_functions_for_qdrant_are_the_encoders(sparse, mini) -> None:
    for function, output in (
        (sparse.sparse_doc_fn, mini.encode_documents(TEXTS)),
        (sparse.sparse_query_fn, mini.encode_queries(TEXTS)),
    ):
        indices, values = function(TEXTS)
        assert indices == [vector.indices.tolist() for vector in output.sparse]
        assert values == [vector.values.tolist() for vector in output.sparse]


async def test_queries_have_the_instruction_and_texts_do_not(call) -> None:
    plain = M3Encoder("m3-mini")
    for kind, mode in ((M3Embedding, "dense"), (M3SparseEmbedding, "sparse")):
        component = kind("m3-mini", query_instruction="问题：")
        query = plain.encode_documents(["问题：首都"])
        text = plain.encode_documents(["首都"])
        as_lists = {"dense": lambda out: out.dense[0].tolist(), "sparse": lambda out: out.sparse[0].as_dict()}[mode]
        assert await call(component, "get_query_embedding", "首都") == as_lists(query) != as_lists(text)
        assert await call(component, "get_text_embedding", "首都") == as_lists(text)


async def test_async_leaves_the_event_loop_free(sparse) -> None:
    async with counted_ticks() as ticks:
        await sparse.aget_text_embedding_batch([text * 47 for text in TEXTS])
    assert ticks.count >= 5


def result_of(component) -> object:
    """What a component makes of the texts."""
    if isinstance(component, M3Rerank):
        return component.postprocess_nodes(NODES, query_str=QUERY)
    return component.get_text_embedding_batch(TEXTS), component.get_query_embedding(QUERY)


@pytest.mark.parametrize("kind", COMPONENTS)
def test_a_copy_does_the_same(kind) -> None:
    more = {"top_n": 3, "modes": ["dense", "sparse"], "weights": (0.5, 1.0, 0.0)} if kind is M3Rerank else {}
    component = kind("m3-mini", max_length=99, query_instruction="banana ", normalize=True, dtype="float32", **more)
    expected = result_of(component)
    assert expected != result_of(kind("m3-mini", **more))
    fields = component.model_dump()
    assert fields["class_name"] == kind.__name__ == kind.class_name()
    copies = [pickle.loads(pickle.dumps(component)), kind(**fields), component.model_copy()]
    if kind is not M3SparseEmbedding:  # LlamaIndex's base class of it has neither
        copies += [kind.from_dict(component.to_dict()), kind.from_json(component.to_json())]
    for copy in copies:
        assert copy.model_dump() == fields
        assert result_of(copy) == expected


@pytest.mark.parametrize("kind", COMPONENTS)
def test_a_token_is_never_shown(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    component = kind("m3-mini", token=SECRET, max_length=490 + COMPONENTS.index(kind))  # an encoder of its own
    shown = [repr(component), str(component), str(component.model_dump()), component.model_dump_json()]
    if kind is not M3SparseEmbedding:
        shown += [str(component.to_dict()), component.to_json()]
    if kind is not M3Rerank:
        shown.append(str(component.to_payload()) if hasattr(component, "to_payload") else "")
    assert not any(SECRET in text for text in shown)
    asked: dict = {}
    monkeypatch.setattr("m3core.encoder.locate", lambda model, **given: asked.update(given) or locate(model, **given))
    assert SECRET not in str(component.encoder.arguments)
    assert asked["token"] == SECRET


@pytest.mark.parametrize("kind", COMPONENTS)
def test_a_model_is_loaded_when_it_is_needed(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3core.lazy.M3Encoder", lambda **arguments: pytest.fail("loaded"))
    component = pickle.loads(pickle.dumps(kind("no/such-model", max_length=9)))
    assert isinstance(component._encoder, LazyEncoder)
    assert component.model_dump()["model_name"] == "no/such-model"


@pytest.mark.parametrize("kind", COMPONENTS)
def test_unknown_and_unusable_fields_are_refused(kind) -> None:
    with pytest.raises(InvalidInput, match=f"{kind.__name__} has no field max_lenght"):
        kind("m3-mini", max_lenght=3)
    with pytest.raises(ValidationError):
        kind("m3-mini", max_length="long")


@pytest.mark.parametrize("kind", COMPONENTS)
def test_it_takes_its_settings_from_the_environment(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3_MODEL", "m3-mini")
    monkeypatch.setenv("M3_DEVICE", "cpu")
    assert (kind().model_name, kind().device) == ("m3-mini", "cpu")
    assert kind("other").model_name == kind(model="other").model_name == kind(model_name="other").model_name == "other"


@pytest.mark.parametrize("kind", COMPONENTS)
def test_it_can_be_given_an_encoder(kind, mini: M3Encoder) -> None:
    component = kind.from_encoder(mini)
    assert component.encoder is mini
    assert result_of(component) == result_of(kind("m3-mini"))


def test_components_of_the_same_settings_share_an_encoder() -> None:
    first, *others = [kind("m3-mini", max_length=77) for kind in COMPONENTS]
    assert all(other.encoder is first.encoder for other in others)
    assert M3Embedding("m3-mini", max_length=78).encoder is not first.encoder


def test_what_changes_vectors_changes_the_key_of_a_pipelines_cache() -> None:
    changes = [
        {"max_length": 5},
        {"normalize": False},
        {"dtype": "float32"},
        {"revision": "x"},
        {"mcls": 256},
        {"query_instruction": "q"},
    ]
    keys = [str(M3Embedding("m3-mini", **change).to_dict()) for change in [{}, *changes]]
    assert len(set(keys)) == len(keys)
    assert str(M3Embedding("m3-mini").to_dict()) == keys[0]


@pytest.mark.parametrize("kind", COMPONENTS)
def test_the_model_is_named_once(kind) -> None:
    assert kind(model="m3-mini").model_name == kind(model_name="m3-mini").model_name == "m3-mini"
    with pytest.raises(InvalidInput, match="give the model once"):
        kind("m3-mini", model="other")
