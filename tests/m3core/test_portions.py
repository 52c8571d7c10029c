"""Large calls are tokenized in portions while the model works; nobody notices but by the clock."""

import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from runners import PATIENCE, gate
from tiny import ZH_EN

from m3core import M3Encoder, TruncationWarning, model
from m3core.tokenizer import M3Tokenizer
from m3core.waiting import Job

TEXTS = [f"{text} {n}" for n in range(10) for text in ZH_EN]


@pytest.fixture
def portions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of 20 texts; how many texts have been tokenized each time."""
    tokenized: list[int] = []
    tokenize = M3Tokenizer.tokenize
    monkeypatch.setattr(model, "_PORTION", 20)
    monkeypatch.setattr(
        M3Tokenizer,
        "tokenize",
        lambda self, texts, *rest: tokenized.append(len(texts)) or tokenize(self, texts, *rest),
    )
    return tokenized


def settled(state: Callable[[], object]) -> object:
    """A state that has not changed for a while."""
    before = None
    while (now := state()) != before:
        before = now
        time.sleep(0.1)
    return now


def test_one_portion_is_tokenized_while_another_goes_through_the_model(m3_dir: Path, portions: list[int]) -> None:
    with (
        M3Encoder(m3_dir, dtype="float32", device="cpu") as encoder,
        ThreadPoolExecutor(1) as pool,
        gate() as passes,
    ):
        call = pool.submit(encoder.encode_documents, TEXTS)
        passes.arrived()
        assert settled(portions.copy) == [20, 20]
        passes.open()
        assert len(call.result(PATIENCE)) == len(TEXTS)
        assert portions == [20, 20, 20, 10]


def test_results_are_those_of_one_portion(tiny_m3: M3Encoder, portions: list[int]) -> None:
    output = tiny_m3.encode_documents(TEXTS)
    alone = [tiny_m3.encode_documents([text]) for text in TEXTS]
    assert portions == [20, 20, 20, 10, *[1] * len(TEXTS)]
    np.testing.assert_allclose(output.dense, [one.dense[0] for one in alone], atol=3e-5)
    for sparse, multivector, one in zip(output.sparse, output.multivector, alone, strict=True):
        assert sparse.as_dict() == pytest.approx(one.sparse[0].as_dict(), abs=3e-5)
        np.testing.assert_allclose(multivector, one.multivector[0], atol=3e-5)


def test_a_call_warns_once_of_all_its_portions(tiny_m3: M3Encoder, portions: list[int]) -> None:
    with pytest.warns(TruncationWarning, match=r"50 of 100 texts were longer than 9 .*the longest 62\)") as caught:
        tiny_m3.encode_documents(["b", "c" * 59] * 50, max_length=9)
    assert len(caught) == 1
    assert len(portions) == 5


def test_an_error_in_between_leaves_nothing_behind(
    m3_dir: Path, portions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenize = M3Tokenizer.tokenize

    def interrupted(self: M3Tokenizer, texts: list[str], *rest: object) -> object:
        if len(portions) == 2:
            raise KeyboardInterrupt
        return tokenize(self, texts, *rest)

    with M3Encoder(m3_dir, dtype="float32", device="cpu") as encoder:
        with monkeypatch.context() as patch:
            patch.setattr(M3Tokenizer, "tokenize", interrupted)
            with pytest.raises(KeyboardInterrupt):
                encoder.encode_documents(TEXTS)
        end = time.monotonic() + PATIENCE
        while jobs() and time.monotonic() < end:
            gc.collect()
        assert not jobs()
        assert len(encoder.encode_documents(TEXTS)) == len(TEXTS)


def jobs() -> int:
    return sum(type(thing) is Job for thing in gc.get_objects())
