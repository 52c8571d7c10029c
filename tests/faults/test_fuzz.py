"""Anything for a text, and anything in a model directory: a result, or one of our errors; nothing is executed."""

import json
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3core import InvalidInput, M3Encoder, M3Error, M3Warning

RIGHT_TO_LEFT = "\u202e\u202d\u2067\u2069\u200f\u061c"
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=200),  # surrogates and unassigned code points too
    st.text(st.sampled_from("的是中a1 \t\n\0\x1b\x7f\u0301\u200d\ufeff\uffff😀\ud800" + RIGHT_TO_LEFT), max_size=60),
    st.builds(
        lambda text, size: (text * (size // max(len(text), 1)))[:size], st.text(max_size=9), st.integers(0, 10**5)
    ),
)


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(TEXTS, max_size=3))
@pytest.mark.parametrize("model", ["tiny_m3", "mini"])
def test_any_text_is_encoded_or_refused_by_its_index(model: str, texts: list[str], request: Any) -> None:
    encoder: M3Encoder = request.getfixturevalue(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", M3Warning)
        if all(map(is_unicode, texts)):
            output = encoder.encode_documents(texts, max_length=64)
            assert len(output) == len(texts)
            assert np.isfinite(output.dense).all()
            assert all(np.isfinite(rows).all() for rows in output.multivector)
            assert all((vector.values > 0).all() for vector in output.sparse)
        else:
            first = next(i for i, text in enumerate(texts) if not is_unicode(text))
            with pytest.raises(InvalidInput, match=rf"text {first} "):
                encoder.encode_documents(texts)


class Payload:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.trace),)

    def __init__(self, trace: str) -> None:
        self.trace = trace


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats() | st.sampled_from(["", "bert", "cls", "../x"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(["a", "weight", "type"]), values),
    max_leaves=4,
)


@st.composite
def damages(draw: st.DrawFn) -> Any:
    """What happens to the files of a model directory."""
    kind = draw(st.sampled_from(["cut", "flip", "replace", "remove", "setting", "pickle", "empty folder"]))
    place, noise = draw(st.floats(0, 1, exclude_max=True)), draw(st.binary(min_size=1, max_size=40))
    value = draw(JSON)

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        at = int(place * len(content))
        if kind == "cut":
            path.write_bytes(content[:at])
        elif kind == "flip":
            content[at : at + len(noise)] = noise
            path.write_bytes(content)
        elif kind == "replace":
            path.write_bytes(noise)
        elif kind == "setting" and path.suffix == ".json":
            settings = json.loads(content)
            settings[sorted(settings)[int(place * len(settings))]] = value
            path.write_text(json.dumps(settings))
        elif kind == "pickle":
            path.write_bytes(pickle.dumps(Payload(str(path.parent.parent / "executed"))))
        else:
            path.unlink()
            if kind == "empty folder":
                path.mkdir()

    return kind, damage


FILES = ("config.json", "tokenizer.json", "model.safetensors", "sparse_linear.pt", "colbert_linear.pt")


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(FILES), damage=damages())
@pytest.mark.parametrize("torch_weights", [False, True], ids=["safetensors", "torch"])
def test_any_model_directory_loads_or_is_named(
    torch_weights: bool, name: str, damage: Any, m3_dir: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    directory = tmp_path / "model"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(m3_dir, directory)
    if torch_weights:
        torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
        (directory / "model.safetensors").unlink()
        name = name.replace("model.safetensors", "pytorch_model.bin")
    _, change = damage
    change(directory / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            encoder = M3Encoder(directory, dtype="float32", device="cpu")
            output = encoder.encode_documents(["the one", "中国"])
        except M3Error:
            pass
        else:
            assert len(output) == 2
    assert not (tmp_path / "executed").exists()
