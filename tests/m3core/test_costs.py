"""What encoding costs, in things that can be counted: passes, rows, copies and calls. Nothing is timed."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from m3core import M3Encoder, heads
from m3core.backbones import kernels
from m3core.checkpoint import Checkpoint
from m3core.packing import Group, Pack
from m3core.passes import ForwardPass, Source

COUNTED = ("m3core", "torch", "transformers", "tokenizers", "numpy")
MODES = ("dense", "sparse", "multivector")


@pytest.fixture
def seen(m3_dir: Path) -> Iterator[tuple[M3Encoder, list[int], Counter[int]]]:
    """An encoder, how many tokens each pass has, and how often which number of rows goes through part of the model."""
    passes: list[int] = []
    rows: Counter[int] = Counter()
    with M3Encoder(m3_dir, dtype="float32", device="cpu", engine="torch", batch_tokens=300) as encoder:
        body = encoder._model.scheduler._runners[0].backbone._model
        body.register_forward_pre_hook(lambda _, __, named: passes.append(named["input_ids"].numel()), with_kwargs=True)
        for part in body.modules():
            if not list(part.children()):  # linear layers, embeddings, norms
                part.register_forward_hook(lambda _, __, out: rows.update([out.shape[:-1].numel()]))
        yield encoder, passes, rows


def test_a_text_costs_one_pass_and_many_one_for_each_pack(seen: tuple[M3Encoder, list[int], Counter[int]]) -> None:
    encoder, passes, _ = seen
    encoder.encode_queries(["the one"])
    encoder.encode_documents(["the one"])
    encoder.token_weights("the one")
    assert len(passes) == 3
    passes.clear()
    encoder.encode_documents(["a b c d"] * 100)  # of 10 tokens, so that 30 of them make a pack
    assert passes == [300, 300, 300, 100]


def test_no_row_of_padding_goes_through_the_model(seen: tuple[M3Encoder, list[int], Counter[int]]) -> None:
    encoder, passes, rows = seen
    texts = ["a " * n for n in (1, 2, 3, 5, 8, 13, 21, 34, 55)]
    encoder.encode_documents(texts)
    assert sum(passes) == sum(len(encoder.tokenize(text)) + 2 for text in texts)
    assert set(rows) == set(passes)  # each part sees the tokens of a pack, no more and no fewer
    assert len(set(rows.values())) == 1


def test_no_row_of_padding_goes_through_openvino(m3_dir: Path) -> None:
    """Each text in one piece, in as few pieces as hold 256 tokens."""
    with M3Encoder(m3_dir, dtype="float32", device="cpu", engine="openvino") as encoder:
        backbone = encoder._model.scheduler._runners[0].backbone
        backbone._request = request = Counted(backbone._request)
        texts = ["a " * n for n in (25, 20, 15, 10, 5)]
        encoder.encode_documents(texts)
        tokens = sum(len(encoder.tokenize(text)) + 2 for text in texts)
    assert request.tokens == [tokens]
    assert request.pairs == [tokens**2]


class Counted:
    """A request of OpenVINO's, and what goes into it."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self.tokens: list[int] = []
        self.pairs: list[int] = []

    def infer(self, inputs: list[np.ndarray], **options: Any) -> Any:
        token_ids, positions, mask = inputs
        assert len(positions) == len(token_ids)
        self.tokens.append(len(token_ids))
        self.pairs.append(mask.size)
        return self._request.infer(inputs, **options)


class Uploads(TorchDispatchMode):
    """Counts copies to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        made = function(*arguments, **(named or {}))
        given = [x.device.type for x in arguments if isinstance(x, torch.Tensor)]
        self.count += isinstance(made, torch.Tensor) and made.device.type == "meta" and "cpu" in given
        return made


@pytest.mark.parametrize(("kernel", "most"), [("varlen", 3), ("padded", 5)])
def test_copies_are_per_pack_and_nothing_asks_the_device_for_a_value(
    m3_dir: Path, kernel: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's meta device, whose tensors have no values: what waits for one fails."""
    down: list[int] = []
    monkeypatch.setattr(kernels, "_hindrance", lambda *_: None)
    monkeypatch.setattr(heads, "download", lambda tensors: down.append(len(tensors)))
    checkpoint = Checkpoint.read(m3_dir, name="m3", revision="")
    source = Source(checkpoint, frozenset(range(4)), "torch", "bfloat16", kernel, None, None)
    model = ForwardPass.load(source, "meta")
    counts = []
    for texts in (2, 20, 200):
        pack = Pack.of([np.arange(4, 6 + n % 50) for n in range(texts)])
        for groups in ([Group(MODES, texts)], [Group(MODES, 1), Group(("dense",), texts - 1)]):
            with Uploads() as up:
                model.run(pack, groups, int)
            counts.append(up.count)
    assert max(counts) <= most
    assert set(down) == {3}  # one for each representation


@contextmanager
def counted_calls() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Counts calls made by or of the code that encodes, in all threads that start meanwhile and in this one."""
    count = 0
    counting = False

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        if counting and event in ("call", "c_call"):
            count += frame.f_globals.get("__name__", "").partition(".")[0] in COUNTED

    def during(work: Callable[[], object]) -> int:
        nonlocal count, counting
        count, counting = 0, True
        work()
        counting = False
        return count

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield during
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.mark.parametrize(("modes", "most"), [(("dense",), 40), (MODES, 70)])
def test_calls_are_few_per_text_and_none_per_token(
    m3_dir: Path, modes: tuple[str, ...], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m3core.backbones.torch._ROWS", 100_000)  # all tokens at once, as there are few layers
    with (
        counted_calls() as during,
        M3Encoder(m3_dir, dtype="float32", device="cpu", engine="torch", batch_tokens=100_000) as encoder,
    ):

        def calls(texts: int, words: int) -> int:
            """The fewest of some tries, as threads wait for each other now and then."""
            work = ["a " * words] * texts
            return min(during(lambda: encoder.encode_documents(work, modes=modes)) for _ in range(5))

        calls(1, 1)
        few, many, long = calls(50, 10), calls(150, 10), calls(50, 60)
    assert (many - few) / 100 <= most
    assert long <= few + 25  # for 5,000 tokens more
