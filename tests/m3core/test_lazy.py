"""Components that stand for one encoder: it loads once, and its passes are shared."""

import asyncio
import gc
import pickle
import threading
from pathlib import Path

import pytest
from counting import counted_passes

from m3core import M3Encoder, UnsupportedMode
from m3core.lazy import LazyEncoder

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
