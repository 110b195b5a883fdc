"""The edges of the binding: what it takes, what it refuses, and what it keeps open."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import pickle
import sys
import threading
import tracemalloc
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


# ---- ids ----


@pytest.mark.parametrize("ids", [b"ab", bytearray(b"ab"), memoryview(b"ab")], ids=["bytes", "bytearray", "memoryview"])
def test_bytes_are_no_ids(ids: Any, store: vecstone.Store, rows: np.ndarray) -> None:
    store.put_many([97, 98], rows[:2])
    snapshot = store.snapshot()
    calls: list[Callable[[], object]] = [
        lambda: store.put_many(ids, rows[2:4]),
        lambda: store.get_many(ids),
        lambda: store.get_documents(ids),
        lambda: store.delete_many(ids),
        lambda: store.delete_where(ids),
        lambda: store.ids_where(ids),
        lambda: store.search(rows[0], filter=ids),
        lambda: snapshot.get_many(ids),
        lambda: snapshot.ids_where(ids),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=f"{type(ids).__name__}.*ids"):
            call()
    assert len(store) == 2 and np.array_equal(store[97], rows[0])


@pytest.mark.parametrize("buffered", [True, False])
def test_a_filter_of_ids_of_another_kind_is_refused(buffered: bool, tmp_path: Path, rows: np.ndarray) -> None:
    kinds: dict[str, list[Any]] = {"string": ["a", "b"], "u64": [1, 2], "uuid": [uuid.UUID(int=1), uuid.UUID(int=2)]}
    for kind, ids in kinds.items():
        with vecstone.open(tmp_path / kind, dim=DIM) as store:
            for others in kinds.values():  # nothing is fixed yet
                assert store.search(rows[0], filter=others).ids == store.ids_where(others) == []
            store.put_many(ids, rows[:2])
            if not buffered:
                store.flush()
            snapshot = store.snapshot()
            for other in kinds.keys() - {kind}:
                calls: list[Callable[[Any], object]] = [
                    lambda ids: store.search(rows[0], filter=ids),
                    lambda ids: store.search_many(rows[:2], filter=ids),
                    store.ids_where,
                    store.delete_where,
                    lambda ids: snapshot.search(rows[0], filter=ids),
                    lambda ids: snapshot.search_many(rows[:2], filter=ids),
                    snapshot.ids_where,
                ]
                for call in calls:
                    with pytest.raises(TypeError, match=f"kind {kind}, this one is of kind {other}"):
                        call(kinds[other])
            assert store.ids_where([]) == [] and store.ids_where(ids[1:]) == ids[1:] and store.delete_where(ids) == 2


# ---- vectors ----


def _packed(rows: np.ndarray) -> np.ndarray:
    array = np.zeros(len(rows), dtype=[("pad", "u1"), ("v", rows.dtype, rows.shape[1:])])["v"]
    array[:] = rows
    return array


def _shifted(rows: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"x" + rows.tobytes(), rows.dtype, offset=1).reshape(rows.shape)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "uint64", ">f4", ">i8"])
@pytest.mark.parametrize("make", [_packed, _shifted])
def test_arrays_that_are_not_aligned(make: Callable[[np.ndarray], np.ndarray], dtype: str, store: vecstone.Store) -> None:
    expected = np.arange(1, 10 * DIM + 1).reshape(10, DIM).astype(dtype)
    array = make(expected)
    assert not array.flags.aligned
    store.put_many(names(10), array)
    assert np.array_equal(store.get_many(names(10)), expected.astype("float32"))
    store.put("one", array[3])
    store.put("two", array[4, ::-1])
    assert np.array_equal(store["one"], expected[3]) and np.array_equal(store["two"], expected[4, ::-1])
    wanted = store.search(expected[5].astype("float32"), k=3)
    assert store.search(array[5], k=3).ids == wanted.ids
    assert store.search_many(array[5:6], k=3).ids.tolist() == [wanted.ids]


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("make", [_packed, _shifted])
def test_ids_that_are_not_aligned(make: Callable[[np.ndarray], np.ndarray], dtype: str, store: vecstone.Store,
                                  rows: np.ndarray) -> None:
    ids = make(np.arange(7, 107).astype(dtype))
    assert not ids.flags.aligned
    store.put_many(ids, rows)
    assert list(store) == list(range(7, 107)) and np.array_equal(store.get_many(ids), rows)


NUMBERS = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_number_is_rounded_as_numpy_does(dtype: str, order: str, store: vecstone.Store) -> None:
    kind = np.dtype(order + np.dtype(dtype).str[1:])
    noise = np.random.default_rng(3).bytes(4000 * kind.itemsize)
    array = np.frombuffer(noise, kind).copy()
    with np.errstate(invalid="ignore"):
        array[~(np.abs(array.astype("float64")) < 1e38)] = 1
    array = array.reshape(-1, DIM)
    ids = np.arange(len(array))
    for source in (array, array[:, ::-1], np.asfortranarray(array), array[::2], np.repeat(array, 2, axis=1)[:, ::2]):
        store.put_many(ids[: len(source)], source)
        assert np.array_equal(store.get_many(ids[: len(source)]), source.astype("float32"))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", ">f4", ">f8", "float64"])
def test_no_array_is_converted_as_a_whole(dtype: str, path: Path) -> None:
    array = np.ones((40_000, 128), dtype=dtype)
    ids = np.arange(len(array))
    with vecstone.open(path, dim=128, buffer_bytes=1 << 20) as store:
        tracemalloc.start()  # numpy tells it of its memory
        store.put_many(ids, array)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 1 << 20, most
        assert store.get(39_999) is not None


def test_nan_never_slips_into_a_single_put(path: Path) -> None:
    """numpy changes an array without the interpreter's lock, while it is put."""
    dim, done = 65_536, threading.Event()
    # The change comes to the vector, the end of it, when a put has begun.
    memory = np.ones(16 * dim, dtype="float32")
    vector = memory[-dim:]
    values = [np.full(16 * dim, value, dtype="float32") for value in (np.nan, 1)]

    def change() -> None:
        while not done.is_set():
            for value in values:
                np.copyto(memory, value)

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    thread.start()
    try:
        with vecstone.open(path, dim=dim, flush_interval=1000.0) as store:
            put = 0
            for n in range(3000):
                try:
                    store.put(n % 10, vector)
                except ValueError:
                    continue
                put += 1
                assert np.isfinite(store[n % 10]).all()
            assert put
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()


@pytest.mark.parametrize("flushed", [True, False])
def test_a_longer_row_is_not_taken_for_a_stored_one(flushed: bool, store: vecstone.Store, rows: np.ndarray) -> None:
    store.put("a", rows[0])
    if flushed:
        store.flush()
    assert store._unchanged(["a"], rows[:1], None).tolist() == [True]
    for wrong in (np.concatenate([rows[:1], rows[1:2]], axis=1), rows[:1, :5]):
        with pytest.raises(ValueError, match=f"dimension 16, this one has {wrong.shape[1]}"):
            store._unchanged(["a"], wrong, None)
        with pytest.raises(ValueError, match=f"has {wrong.shape[1]} components, .* dim 16"):
            vecstone.ingest(store, [(["a"], wrong)])
    with pytest.raises(ValueError, match="1 id needs vectors"):
        store._unchanged(["a"], rows[:2], None)


# ---- documents ----


def test_keys_become_strings_as_json_says(store: vecstone.Store, rows: np.ndarray) -> None:
    document = {1: "a", 2.5: [{True: {None: 0}}], "b": {-7: ({3: 4},)}}
    store.put("a", rows[0], document)
    assert store.get_document("a") == {"1": "a", "2.5": [{"true": {"null": 0}}], "b": {"-7": [{"3": 4}]}}
    for same in ({1: 0, "1": 0}, {"x": [{"true": 0, True: 1}]}, {"x": ({None: 0, "null": 1},)}, {2.5: 0, "2.5": 0}):
        with pytest.raises(ValueError, match="same key"):
            store.put("b", rows[1], same)
        with pytest.raises(ValueError, match="document of row 1: .*same key"):
            store.put_many(["b", "c"], rows[:2], [None, same])
    for odd in ({(1, 2): 0}, {"x": {b"y": 0}}, {object(): 0}):
        with pytest.raises(TypeError, match="keys must be str"):
            store.put("b", rows[1], odd)
    assert list(store) == ["a"]


# ---- options ----


@pytest.mark.parametrize("name, bad, error", [
    ("buffer_bytes", -1, ValueError),
    ("buffer_bytes", 1 << 70, ValueError),
    ("buffer_bytes", 1.5, TypeError),
    ("buffer_bytes", "1", TypeError),
    ("buffer_bytes", None, TypeError),
    ("threads", -1, ValueError),
    ("threads", 0, ValueError),
    ("threads", 1 << 70, ValueError),
    ("threads", 2.0, TypeError),
    ("dim", -1, ValueError),
    ("dim", 0, ValueError),
    ("dim", 65_537, ValueError),
    ("dim", 10**30, ValueError),
    ("dim", "8", TypeError),
])
def test_options_that_are_no_such_numbers(name: str, bad: Any, error: type[Exception], path: Path) -> None:
    with pytest.raises(error, match=f"^{name} is "):
        vecstone.open(path, **{name: bad})
    assert not path.exists()


def test_numbers_of_numpy_are_numbers(path: Path) -> None:
    with vecstone.open(path, dim=np.int64(4), threads=np.uint8(1), buffer_bytes=np.int32(1 << 20)) as store:  # type: ignore[arg-type]
        store["a"] = np.ones(4)
        assert store.search(np.ones(4), k=np.int16(1)).ids == ["a"]  # type: ignore[arg-type]


def test_k_that_is_no_such_number(store: vecstone.Store, rows: np.ndarray) -> None:
    for reads in (store, store.snapshot()):
        for search in (reads.search, reads.search_many):
            for bad in (-1, 1 << 70):
                with pytest.raises(ValueError, match=f"k is {bad}"):
                    search(rows[:1], k=bad)
            with pytest.raises(TypeError):
                search(rows[:1], k="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_errors_of_paths_say_which(path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        vecstone.open(path, mode="r")
    assert missing.value.errno == errno.ENOENT and os.fspath(missing.value.filename) == os.fspath(path)
    with vecstone.open(path, dim=2) as store:
        with pytest.raises(ValueError, match="in the store itself"):
            store.backup(path)
        other = path.parent / "other"
        vecstone.open(other, dim=2).close()
        with pytest.raises(FileExistsError) as copied:
            store.backup(other)
        assert copied.value.errno == errno.EEXIST and os.fspath(copied.value.filename) == os.fspath(other)
        with pytest.raises(FileExistsError):  # open in this process
            vecstone.open(path, mode="x")
    with pytest.raises(FileExistsError, match="'a' or 'r\\+'") as there:
        vecstone.open(path, mode="x")
    assert there.value.errno == errno.EEXIST and os.fspath(there.value.filename) == os.fspath(path)


def test_of_many_that_make_a_store_one_makes_it(tmp_path: Path) -> None:
    threads = 8
    barrier = threading.Barrier(threads)

    def make(path: Path) -> vecstone.Store | None:
        barrier.wait()
        try:
            return vecstone.open(path, dim=2, mode="x")
        except FileExistsError:
            return None

    with ThreadPoolExecutor(threads) as pool:
        for n in range(20):
            stores = [store for store in pool.map(make, [tmp_path / str(n)] * threads) if store is not None]
            assert len(stores) == 1
            stores[0].close()


# ---- what stays open ----


def _descriptors(path: Path) -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            pass
    return [name for name in found if name.startswith(f"{path}{os.sep}")]


def _mappings(path: Path) -> set[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(line.split(maxsplit=5)[5].removesuffix(" (deleted)")).name for line in lines if f"{path}{os.sep}" in line}


@linux
@pytest.mark.parametrize("take", [lambda segment: segment.vectors, np.asarray, lambda segment: segment.vectors[3:, ::2]])
def test_a_view_keeps_its_mapping_and_nothing_else(take: Any, path: Path, rows: np.ndarray) -> None:
    store = vecstone.open(path, dim=DIM)
    store.put_many(names(60), rows[:60])
    store.delete("id-7")
    store.compact()
    store.put_many([f"more-{n}" for n in range(40)], rows[60:])
    segments = store.arrays()
    assert len(segments) == 2 and _descriptors(path)
    view, expected = take(segments[0]), np.array(take(segments[0]))
    name = f"{segments[0].number:08}.dat"
    _ = segments[1].ids, segments[1].live
    del segments
    store.close()
    gc.collect()
    assert _descriptors(path) == [] and _mappings(path) == {name}
    assert np.array_equal(view, expected)
    del view
    gc.collect()
    assert _mappings(path) == set()


@linux
def test_a_segment_keeps_its_own_files_only(path: Path, rows: np.ndarray) -> None:
    store = vecstone.open(path, dim=DIM)
    store.put_many(names(60), rows[:60])
    store.delete("id-7")
    store.compact()
    store.put_many([f"more-{n}" for n in range(40)], rows[60:])
    segment = store.arrays()[1]
    store.close()
    gc.collect()
    stem = f"{segment.number:08}"
    assert {Path(name).stem for name in _descriptors(path)} == {stem} == {Path(name).stem for name in _mappings(path)}
    assert segment.ids == [f"more-{n}" for n in range(40)] and segment.live.all()
    del segment
    gc.collect()
    assert _descriptors(path) == [] and _mappings(path) == set()


def test_a_segment_is_an_array_as_numpy_asks(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put_many(names(100), rows)
    (segment,) = store.arrays()
    assert np.shares_memory(np.asarray(segment), segment.vectors)
    assert np.array_equal(np.asarray(segment, dtype="float64"), rows.astype("float64"))
    copied = np.array(segment, copy=True)
    assert copied.flags.writeable and not np.shares_memory(copied, segment.vectors) and np.array_equal(copied, rows)
    assert np.array_equal(np.stack([segment, segment]), np.stack([rows, rows]))


# ---- children and copies ----


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_reads_in_every_way(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM, threads=2) as store:
        store.put_many(names(100), rows)
        store.flush()
        store["buffered"] = rows[0]

        def look(results: Any) -> None:
            (segment,) = store.arrays()
            copied = pickle.loads(pickle.dumps(store))
            seen = [segment.vectors.copy(), segment.ids, len(store.snapshot().arrays()), copied.mode, copied.get("id-7")]
            try:
                seen.append(store.to_arrow().num_rows)
            except ImportError:
                seen.append(100)
            results.put(seen)

        context = multiprocessing.get_context("fork")
        results = context.Queue()
        child = context.Process(target=look, args=(results,))
        child.start()
        vectors, ids, segments, mode, vector, arrow = results.get(timeout=60)
        child.join()
        assert child.exitcode == 0 and (segments, mode, arrow) == (1, "r", 100)
        assert np.array_equal(vectors[:100], rows) and ids[:100] == names(100) and np.array_equal(vector, rows[7])


def test_a_pickled_handle_keeps_its_threads(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM, threads=2) as store, vecstone.open(path) as other, vecstone.open(path, mode="r") as reader:
        store["a"] = rows[0]
        for handle, threads in ((store, 2), (other, 2), (reader, None)):
            with pickle.loads(pickle.dumps(handle)) as copied:
                assert copied.mode == "r" and copied._threads == threads
                with pickle.loads(pickle.dumps(copied)) as again:
                    assert again._threads == threads
