import multiprocessing
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from counting import counted_passes

from m3core import CacheWarning, InvalidInput, M3Encoder, M3Output, TruncationWarning, VectorCache

TEXTS = ["the meaning of it", "中国人说的", "", "the meaning of it"]


def same(a: M3Output, b: M3Output) -> bool:
    """Bit by bit."""
    return (
        a.modes == b.modes
        and (a.dense is None or np.array_equal(a.dense, b.dense))
        and all(np.array_equal(x.values, y.values) for x, y in zip(a.sparse or (), b.sparse or (), strict=True))
        and all(np.array_equal(x.indices, y.indices) for x, y in zip(a.sparse or (), b.sparse or (), strict=True))
        and all(np.array_equal(x, y) for x, y in zip(a.multivector or (), b.multivector or (), strict=True))
        and (a.score_weights, a.fingerprint) == (b.score_weights, b.fingerprint)
    )


@pytest.fixture(params=["file", "temporary"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "new folder" / "vectors.sqlite" if request.param == "file" else None)


@pytest.fixture
def encoder(m3_dir: Path, cache: VectorCache) -> M3Encoder:
    return M3Encoder(m3_dir, dtype="float32", device="cpu", cache=cache)


def test_each_text_is_encoded_once_and_comes_back_bit_by_bit(encoder: M3Encoder, cache: VectorCache) -> None:
    with counted_passes() as passes:
        first = encoder.encode_documents(TEXTS)
        assert passes.texts == 3
        second = encoder.encode_documents(TEXTS)
        assert passes.texts == 3
    assert same(first, second)
    assert len(cache) == 9
    encoder.cache = None
    plain = encoder.encode_documents(TEXTS)
    assert np.abs(plain.dense - first.dense).max() < 1e-5
    assert [v.as_dict().keys() for v in plain.sparse] == [v.as_dict().keys() for v in second.sparse]
    assert [m.shape for m in plain.multivector] == [m.shape for m in second.multivector]


def test_modes_are_kept_apart_and_share_what_is_there(encoder: M3Encoder) -> None:
    with counted_passes() as passes:
        encoder.encode_documents(TEXTS, modes=["dense"])
        encoder.encode_documents(TEXTS, modes=["dense", "sparse"])
        assert passes.texts == 6
        sparse = encoder.encode_documents(TEXTS, modes=["sparse"])
        assert passes.texts == 6
    assert sparse.modes == ("sparse",)


def test_queries_share_with_documents_unless_they_have_an_instruction(
    encoder: M3Encoder, m3_dir: Path, cache: VectorCache
) -> None:
    instructed = M3Encoder(m3_dir, dtype="float32", device="cpu", instruction="me ", cache=cache)
    with counted_passes() as passes:
        encoder.encode_documents(["you"])
        encoder.encode_queries(["you"])
        assert passes.texts == 1
        instructed.encode_documents(["you"])
        assert passes.texts == 1
        instructed.encode_queries(["you"])
        assert passes.texts == 2


def test_other_models_lengths_and_dtypes_have_entries_of_their_own(
    encoder: M3Encoder, m3e_dir: Path, m3_dir: Path, cache: VectorCache
) -> None:
    text = ["one two " * 4]
    with counted_passes() as passes:
        encoder.encode_documents(text)
        with pytest.warns(TruncationWarning):
            encoder.encode_documents(text, max_length=16)
        M3Encoder(m3e_dir, dtype="float32", device="cpu", cache=cache).encode_documents(text)
        M3Encoder(m3_dir, dtype="bfloat16", device="cpu", cache=cache).encode_documents(text)
        M3Encoder(m3_dir, dtype="float32", device="cpu", normalize=False, cache=cache).encode_documents(text)
        assert passes.texts == 5


def test_windows_and_async_calls_use_it_too(encoder: M3Encoder) -> None:
    import asyncio

    with counted_passes() as passes:
        whole = M3Output.concat(encoder.iter_encode(iter(TEXTS), window=2))
        assert passes.texts == 3
        assert same(whole, asyncio.run(encoder.aencode_documents(TEXTS)))
        assert same(encoder.encode_documents([]), encoder.encode_documents([]))
        assert passes.texts == 3


def test_it_holds_no_more_than_it_may_and_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "small.sqlite", max_bytes=20_000)
    for n in range(100):
        cache.put({str(n).encode(): bytes(900)})
        assert cache.nbytes <= 20_000
    assert len(cache) >= 15
    assert not cache.get([b"0", b"50"])
    assert cache.get([b"99"]) == {b"99": bytes(900)}
    cache.put({b"too large": bytes(30_000)})
    assert cache.get([b"99", b"too large"]) == {b"99": bytes(900)}
    cache.clear()
    assert (cache.nbytes, len(cache)) == (0, 0)


def test_what_is_read_is_kept_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    monkeypatch.setattr("time.time_ns", lambda: now)
    cache = VectorCache(tmp_path / "small.sqlite", max_bytes=10_000)
    for n in range(9):
        now += 10**12
        cache.put({str(n).encode(): bytes(900)})
    now += 10**12
    cache.get([b"0"])
    now += 10**12
    cache.put({b"9": bytes(900), b"10": bytes(900)})
    assert set(cache.get([str(n).encode() for n in range(11)])) >= {b"0", b"10"}
    assert not cache.get([b"1"])


def test_a_file_outlives_its_encoder(m3_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    first = M3Encoder(m3_dir, dtype="float32", device="cpu", cache=path).encode_documents(TEXTS)
    with counted_passes() as passes:
        second = M3Encoder(m3_dir, dtype="float32", device="cpu", cache=str(path)).encode_documents(TEXTS)
    assert passes.texts == 0
    assert same(first, second)


def test_threads_share_it(encoder: M3Encoder) -> None:
    results: list[M3Output] = []
    threads = [threading.Thread(target=lambda: results.append(encoder.encode_documents(TEXTS))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.abs(r.dense - results[0].dense).max() < 1e-5 for r in results)


WRITER = """
import sys
from m3core import VectorCache
cache = VectorCache(sys.argv[1], max_bytes=10**7)
for n in range(200):
    key = f"{n % 50}".encode()
    cache.put({key: key * 100})
    assert cache.get([key]) == {key: key * 100}
"""


def test_processes_share_it(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    command = [sys.executable, "-W", "error", "-c", WRITER, str(path)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    for writer in writers:
        _, error = writer.communicate(timeout=60)
        assert writer.returncode == 0, error.decode()
    cache = VectorCache(path)
    assert len(cache) == 50
    assert cache.nbytes == sum(len(f"{n}") * 100 + 100 for n in range(50))


def test_a_killed_process_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    endless = WRITER.replace("range(200)", "iter(int, 1)") + "\n"
    endless = endless.replace("for n in iter(int, 1):", "import itertools\nfor n in itertools.count():")
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", endless, str(path)])
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=1.5)
        writer.kill()
        writer.wait()
    cache = VectorCache(path)
    keys = [f"{n}".encode() for n in range(50)]
    assert cache.get(keys) == {key: key * 100 for key in cache.get(keys)}
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert cache.nbytes == database.execute("SELECT TOTAL(size) FROM vectors").fetchone()[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(cache: VectorCache) -> None:
    cache.put({b"a": b"of the parent"})
    child = multiprocessing.get_context("fork").Process(target=cache.put, args=({b"b": b"of the child"},))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    expected = {b"a": b"of the parent"} | ({b"b": b"of the child"} if cache.path else {})
    assert cache.get([b"a", b"b"]) == expected


def test_copies_open_the_same_file(cache: VectorCache) -> None:
    cache.put({b"a": b"1"})
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.path, copy.max_bytes) == (cache.path, cache.max_bytes)
    assert copy.get([b"a"]) == ({b"a": b"1"} if cache.path else {})


def test_a_closed_one_opens_again(cache: VectorCache) -> None:
    cache.put({b"a": b"1"})
    cache.close()
    assert cache.get([b"a"]) == ({b"a": b"1"} if cache.path else {})


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are notes, and no database at all " * 100)
    with pytest.raises(InvalidInput, match=r"notes\.txt cannot be used as a cache"):
        VectorCache(text)
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE vectors (key)")
    with pytest.raises(InvalidInput, match="database of another program"):
        VectorCache(tmp_path / "other.sqlite")
    with pytest.raises(InvalidInput, match="cannot be used as a cache"):
        VectorCache(tmp_path)
    for limit in (0, -1, 1.5, True):
        with pytest.raises(InvalidInput, match="max_bytes"):
            VectorCache(max_bytes=limit)


def test_without_a_readable_file_the_work_is_done_with_a_warning(m3_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    encoder = M3Encoder(m3_dir, dtype="float32", device="cpu", cache=path)
    expected = encoder.encode_documents(TEXTS)
    encoder.cache.close()
    for file in tmp_path.glob("vectors.sqlite*"):
        file.write_bytes(b"damaged" * 5000)
    with pytest.warns(CacheWarning, match="passed over"):
        again = encoder.encode_documents(TEXTS)
    assert np.abs(again.dense - expected.dense).max() < 1e-5


OPENER = """
import sys, time
from m3core import VectorCache
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
for n in range(20):
    VectorCache(f"{sys.argv[1]}/{n}.sqlite").put({b"a": b"1"})
"""


def test_processes_may_make_it_at_the_same_time(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", OPENER, str(tmp_path), str(time.time() + 3)]
    for opener in [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]:
        _, error = opener.communicate(timeout=60)
        assert opener.returncode == 0, error.decode()


def test_what_was_read_counts_though_its_use_cannot_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite")
    monkeypatch.setattr("time.time_ns", lambda: 0)
    cache.put({b"a": b"1"})
    monkeypatch.undo()
    other = sqlite3.connect(tmp_path / "vectors.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    start = time.perf_counter()
    assert cache.get([b"a"]) == {b"a": b"1"}
    assert time.perf_counter() - start < 5
    other.close()


@pytest.mark.parametrize("damage", ["substr(value, 1, length(value) - 3)", "x''", "zeroblob(length(value) * 2)"])
def test_what_is_damaged_is_encoded_anew(m3_dir: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "vectors.sqlite"
    encoder = M3Encoder(m3_dir, dtype="float32", device="cpu", cache=path)
    first = encoder.encode_documents(TEXTS[:2])
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE vectors SET value = {damage} WHERE length(value) = 128")  # the dense ones
    with counted_passes() as passes:
        again, once_more = encoder.encode_documents(TEXTS[:2]), encoder.encode_documents(TEXTS[:2])
    assert passes.texts == 2
    assert np.abs(again.dense - first.dense).max() < 1e-5
    assert same(again, once_more)


def test_a_home_folder_and_a_folder_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert VectorCache("~/vectors.sqlite").path == tmp_path / "vectors.sqlite"
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="cannot be used as a cache"):
        VectorCache(tmp_path / "file" / "vectors.sqlite")
