from pathlib import Path

import numpy as np
import pytest

from m3core import InvalidInput, M3Encoder, TruncationWarning, UnsupportedMode


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "expected a list of texts, not None"),
        ("one text", r"not a single str; for one text pass \[text\]"),
        (b"bytes", "not a single bytes"),
        (3, "not a single int"),
        ({"a": 1}, "not a dict"),
        ({"a"}, "not a set"),
        (["a", None], "text 1 is None, not a str"),
        (["a", "b", 3.5], "text 2 is float, not a str"),
        (["a", b"b"], "text 1 is bytes, not a str"),
        (["a", ["b"]], "text 1 is list, not a str"),
        (["fine", "ab\ud800c"], "text 1 holds a lone surrogate at character 2"),
    ],
)
@pytest.mark.parametrize("method", ["encode_documents", "encode_queries"])
def test_what_is_no_list_of_texts_is_named(tiny_m3: M3Encoder, method: str, texts: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        getattr(tiny_m3, method)(texts)


def test_an_instruction_does_not_hide_a_bad_query(m3_dir: Path) -> None:
    encoder = M3Encoder(m3_dir, instruction="query: ")
    with pytest.raises(InvalidInput, match="text 0 is None"):
        encoder.encode_queries([None])


@pytest.mark.parametrize("texts", ["text", None, 5])
def test_a_stream_refuses_what_is_no_source_at_once(tiny_m3: M3Encoder, texts: object) -> None:
    with pytest.raises(InvalidInput, match="expected a list of texts"):
        tiny_m3.iter_encode(texts)


def test_no_texts_give_an_empty_output_of_the_right_width(tiny_m3: M3Encoder) -> None:
    output = tiny_m3.encode_documents([])
    assert output.dense.shape == (0, 32)
    assert (output.sparse, output.multivector) == ([], [])
    assert tiny_m3.encode_queries(["a"]).score(output).shape == (1, 0)
    assert list(tiny_m3.iter_encode([])) == []


def test_an_empty_text_has_a_dense_vector_no_weight_and_one_row(tiny_m3: M3Encoder) -> None:
    for text in ("", "   \n\t"):
        output = tiny_m3.encode_documents([text])
        assert np.isfinite(output.dense).all()
        assert len(output.sparse[0]) == 0
        assert output.multivector[0].shape == (1, 32)


def test_nul_and_controls_go_through(mini: M3Encoder) -> None:
    output = mini.encode_documents(["教师与算法之间的分工\x00应当由学校来决定\x01，而不是由软件公司来决定\x7f。"])
    assert np.isfinite(output.dense).all()


def test_a_megabyte_of_text_is_cut_and_encoded(mini: M3Encoder) -> None:
    text = "人工智能会取代教师吗？" * 31_000
    assert len(text.encode()) > 1_000_000
    with pytest.warns(TruncationWarning, match="1 of 1 texts were longer than 512 tokens"):
        output = mini.encode_documents([text])
    assert len(output.multivector[0]) == 511


@pytest.mark.parametrize("modes", [[], ["lexical"], "dense", ["dense", "colbert"], 5])
def test_unknown_modes_are_named(tiny_m3: M3Encoder, modes: object) -> None:
    with pytest.raises(InvalidInput, match="modes must be a list of some of 'dense', 'sparse', 'multivector'"):
        tiny_m3.encode_documents(["a"], modes=modes)


@pytest.mark.parametrize("length", [0, 2, -5, 129, 10.5, "10"])
def test_a_length_outside_the_models_range_is_refused(tiny_m3: M3Encoder, m3_dir: Path, length: int) -> None:
    with pytest.raises(InvalidInput, match=r"max_length must be between 3 .* and 128"):
        tiny_m3.encode_documents(["a"], max_length=length)
    with pytest.raises(InvalidInput, match="max_length"):
        M3Encoder(m3_dir, max_length=length)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float16"}, "dtype must be 'auto', 'float32', 'bfloat16' or 'int8', not 'float16'"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
        ({"batch_tokens": 0}, "batch_tokens must be a whole number from 1"),
        ({"instruction": 5}, "instruction is int"),
    ],
)
def test_bad_arguments_are_named(m3_dir: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        M3Encoder(m3_dir, **arguments)


def test_an_unsupported_mode_names_the_model_and_what_it_has(m3e_dir: Path) -> None:
    with pytest.raises(UnsupportedMode, match=rf"{m3e_dir.name} has no multivector representation; it has dense"):
        M3Encoder(m3e_dir).encode_queries(["a"], modes=["multivector"])
