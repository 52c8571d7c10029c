"""Components that stand for one encoder: it loads once, and its passes are shared."""

import asyncio
import copy
import gc
import pickle
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from counting import counted_passes

from m3core import M3Encoder, UnsupportedMode
from m3core.lazy import LazyEncoder, shared_encoder

TEXTS = ["the meaning of it", "中国人说的"]


def lazy(folder: Path, *modes: str, **arguments: object) -> LazyEncoder:
    return LazyEncoder(modes, model=folder, dtype="float32", device="cpu", **arguments)


def test_the_same_arguments_are_one_encoder(m3_dir: Path) -> None:
    one, other = lazy(m3_dir, "dense"), lazy(m3_dir, "sparse")
    assert one.get() is other.get()
    assert lazy(m3_dir, "dense", max_length=16).get() is not one.get()


def test_it_loads_once_whichever_thread_asks(m3_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = M3Encoder.__init__
    monkeypatch.setattr(M3Encoder, "__init__", lambda self, **given: loaded.append(1) or load(self, **given))
    mine = lazy(m3_dir, "dense", max_length=17)
    threads = [threading.Thread(target=mine.get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [1]


@pytest.mark.parametrize("queries", [False, True])
def test_what_two_want_is_made_in_one_pass(m3_dir: Path, queries: bool) -> None:
    dense, sparse = lazy(m3_dir, "dense", max_length=18), lazy(m3_dir, "sparse", max_length=18)
    with counted_passes() as passes:
        assert sparse.encode(TEXTS, queries=queries).sparse is not None
        assert dense.encode(TEXTS, queries=queries).dense is not None
        assert passes.texts == 2
        asyncio.run(dense.aencode([*TEXTS, "new"], queries=queries))
        asyncio.run(sparse.aencode([*TEXTS, "new"], queries=queries))
        assert passes.texts == 3


def test_one_alone_makes_only_what_it_wants_and_keeps_nothing(m3_dir: Path) -> None:
    gc.collect()
    dense = lazy(m3_dir, "dense", max_length=19)
    assert dense.encode(TEXTS).modes == ("dense",)
    assert dense.get().cache is None
    sparse = dense.wanting(["sparse"])
    assert dense.encode(TEXTS).modes == ("dense", "sparse")
    assert dense.get().cache is not None
    del sparse
    gc.collect()
    assert dense.encode(TEXTS).modes == ("dense",)


def test_two_that_want_the_same_keep_nothing_unless_one_follows_the_other(m3_dir: Path) -> None:
    one, other = lazy(m3_dir, "dense", max_length=20), lazy(m3_dir, "dense", max_length=20)
    one.encode(TEXTS)
    assert other.get().cache is None
    follower = one.wanting(["dense"])
    with counted_passes() as passes:
        one.encode(TEXTS)
        follower.encode(TEXTS)
    assert passes.texts == 2


def test_a_mode_that_the_model_lacks_troubles_only_who_wants_it(m3e_dir: Path) -> None:
    dense, sparse = lazy(m3e_dir, "dense"), lazy(m3e_dir, "sparse")
    assert dense.encode(TEXTS).modes == ("dense",)
    with pytest.raises(UnsupportedMode, match="no sparse representation"):
        sparse.encode(TEXTS)


def test_one_for_an_encoder_that_is_there(tiny_m3: M3Encoder) -> None:
    assert LazyEncoder.of(tiny_m3).get() is tiny_m3


def test_a_copy_for_another_process_shares_the_file_and_the_passes(m3_dir: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "vectors.sqlite")
    dense, sparse = lazy(m3_dir, "dense", cache=path), lazy(m3_dir, "sparse", cache=path)
    copied = pickle.dumps(dense)
    assert pickle.loads(copied).modes == ("dense", "sparse")
    with counted_passes() as passes:
        pickle.loads(copied).encode(TEXTS)
        sparse.encode(TEXTS)
    assert passes.texts == 2
    assert pickle.loads(pickle.dumps(lazy(m3_dir, "dense"))).modes == ("dense",)


def test_one_that_follows_wants_only_what_the_model_has(m3e_dir: Path) -> None:
    dense = lazy(m3e_dir, "dense", max_length=30)
    assert dense.wanting(["dense", "sparse", "multivector"]).encode(TEXTS).modes == ("dense",)


def test_defaults_make_no_difference_and_what_is_in_use_is_shared(m3_dir: Path) -> None:
    encoder = shared_encoder(model=m3_dir, max_length=31)
    assert LazyEncoder(model=str(m3_dir), dtype="auto", device=None, max_length=31).get() is encoder


def test_what_was_lent_is_taken_back(tiny_m3: M3Encoder) -> None:
    dense = LazyEncoder.of(tiny_m3)
    sparse = LazyEncoder.of(tiny_m3, ["sparse"])
    with counted_passes() as passes:
        dense.encode(TEXTS)
        sparse.encode(TEXTS)
    assert passes.texts == 2
    assert tiny_m3.cache is not None
    del sparse
    gc.collect()
    assert dense.get().cache is None
    other = dense.wanting(["dense"])
    assert other.get().cache is not None
    del dense, other
    gc.collect()
    assert tiny_m3.cache is None


def test_copies_in_this_process_share_the_encoder(tiny_m3: M3Encoder) -> None:
    dense = LazyEncoder.of(tiny_m3)
    assert copy.deepcopy(dense).get() is copy.copy(dense).get() is tiny_m3


def test_components_come_and_go_while_others_encode(m3_dir: Path) -> None:
    """In threads, with as many changes of them as can be."""
    stop = threading.Event()
    mine = lazy(m3_dir, "dense", max_length=32)
    mine.get()
    errors: list[BaseException] = []

    def work(step: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                step()
        except BaseException as error:
            errors.append(error)

    steps = [lambda: lazy(m3_dir, "sparse", max_length=32), lambda: mine.wanting(["dense"]), mine.get, mine.get]
    threads = [threading.Thread(target=work, args=(step,)) for step in steps]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        time.sleep(1.0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert errors == []
