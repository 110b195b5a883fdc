"""A store before its first vector: nothing is on the disk, and the first write makes it, whoever else is at it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names

THREADS = 8
ROUNDS = int(os.environ.get("VECSTONE_FIRST_WRITES", "40"))


def _check_empty(store: vecstone.Store | vecstone.Snapshot, metric: str = "cosine") -> None:
    assert (store.dim, store.metric, store.id_kind, len(store)) == (None, metric, None, 0) and store
    assert list(store) == [] and list(store.items()) == [] and list(store.values()) == [] and list(store.keys()) == []
    assert store.get("a") is None and store.get(7, "none") == "none" and "a" not in store
    assert store.get_document("a") is None and store.get_documents(["a", "b"]) == [None, None]
    assert store.get_many(["a", "b"], missing="nan").shape == (2, 0) and store.ids_where({"x": 1}) == []
    with pytest.raises(KeyError):
        store["a"]
    with pytest.raises(KeyError):
        store.get_many(["a"])
    hits = store.search([1, 2, 3], k=5, filter={"x": 1}, with_vectors=True, with_documents=True)
    assert list(hits) == [] and hits.exact and hits.rows_read == 0
    assert store.search_many(np.ones((4, 3)), k=2).distances.tolist() == [[np.inf] * 2] * 4
    assert store.arrays() == []


def test_it_is_an_empty_table(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with vecstone.open(path) as store:
        for source in (store, store.snapshot()):
            table = pyarrow.table(source)
            assert table.num_rows == 0 and table.column_names == ["id", "vector", "document"]


def test_it_is_empty_in_every_way(path: Path, tmp_path: Path) -> None:
    with vecstone.open(path, metric="l2") as store:
        _check_empty(store, "l2")
        _check_empty(store.snapshot(), "l2")
        store.flush()
        store.clear()
        asyncio.run(store.flush_async())
        assert store.compact() == {
            "segments": 0, "rows_dropped": 0, "bytes_freed": 0, "segments_left": 0, "rows_left": 0}
        with pytest.raises(ValueError, match="share of dead rows"):
            store.compact(min_dead=2)
        assert store.verify()["ok"] and not store.refresh()
        assert not store.delete("a") and store.delete_many([1, 2]) == 0 and store.delete_where({"x": 1}) == 0
        store.put_many([], np.zeros((0, 3)))
        store.put_documents([], [])
        for change in (lambda: store.put_document("a", 1), lambda: store.update_documents(["a"], [{}]),
                       lambda: store.__delitem__("a"), lambda: store.popitem()):
            with pytest.raises(KeyError):
                change()
        with pytest.raises(FileNotFoundError):
            store.backup(tmp_path / "copy")
        assert "rows=0 dim=None metric='l2'" in repr(store) and "not fixed yet" in store._repr_html_()
        stats = store.stats()
        _check_empty(store, "l2")
        assert not path.exists() and not (tmp_path / "copy").exists()
        with vecstone.open(tmp_path / "other", dim=2) as made:
            assert {key: type(value) for key, value in stats.items() if key != "dim"} == {
                key: type(value) for key, value in made.stats().items() if key != "dim"}
        assert stats["dim"] is None and stats["metric"] == "l2" and stats["rows"] == 0 and stats["clean"]
    assert not path.exists()
    with pytest.raises(ValueError, match="closed"):
        len(store)
    with pytest.raises(ValueError, match="closed"):
        store["a"] = [1.0]
    assert not path.exists()


WRITES: dict[str, Callable[[vecstone.Store, np.ndarray], Any]] = {
    "setitem": lambda store, row: store.__setitem__("a", row),
    "put": lambda store, row: store.put("a", row, {"x": 1}),
    "sync": lambda store, row: store.put("a", row, durability="sync"),
    "put_many": lambda store, row: store.put_many(["a"], row[None]),
    "update": lambda store, row: store.update({"a": row}),
    "ingest": lambda store, row: vecstone.ingest(store, iter([(["a"], row[None])])),
}


@pytest.mark.parametrize("how", list(WRITES))
@pytest.mark.parametrize("mode", ["a", "x"])
def test_the_first_write_makes_it(how: str, mode: Any, path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, mode=mode, metric="ip") as store:
        before = store.snapshot()
        WRITES[how](store, rows[0])
        assert (store.dim, len(store), store.metric, store.id_kind) == (DIM, 1, "ip", "string")
        assert np.array_equal(store["a"], rows[0]) and store.search(rows[0], k=1).ids == ["a"]
        _check_empty(before, "ip")
        with pytest.raises(ValueError, match="dim"):
            store.put("b", rows[0, :5])
    with vecstone.open(path, mode="r") as store:
        assert np.array_equal(store["a"], rows[0])


def test_a_first_write_that_is_refused_makes_nothing(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path) as store:
        refused: list[Callable[[], Any]] = [
            lambda: store.put("a", [1.0, np.nan]),
            lambda: store.put("", [1.0]),
            lambda: store.put("x" * 65_537, [1.0]),
            lambda: store.put("a", []),
            lambda: store.put("a", np.zeros(65_537)),
            lambda: store.put("a", [1.0], {1, 2}),
            lambda: store.put_many(["a", "b"], [[1.0], [np.inf]]),
            lambda: store.put_many(["a", ""], [[1.0], [2.0]]),
            lambda: store.put_many(["a", "b"], [[1.0]]),
            lambda: store.put_many(["a", 7], [[1.0], [2.0]]),
            lambda: store.put_many(["a", "b"], [[1.0], [2.0]], [1]),
            lambda: store._put_lines(["a"], [[1.0]], ["{"], None),
        ]
        for n, call in enumerate(refused):
            with pytest.raises((ValueError, TypeError)):
                call()
            assert store.dim is None and not path.exists(), n
        store[7] = [1.0]  # dimension and kind of the ids were free
        assert (store.dim, store.id_kind) == (1, "u64")


def test_handles_of_a_process_share_it(path: Path, tmp_path: Path, rows: np.ndarray) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    first, second = vecstone.open(path), vecstone.open(tmp_path / "link" / ".." / path.parent.name / path.name)
    with pytest.raises(FileExistsError):
        vecstone.open(path, mode="x")
    for mode in ("r", "r+"):
        with pytest.raises(FileNotFoundError):
            vecstone.open(path, mode=mode)
    with pytest.raises(ValueError, match="cosine, not by l2"):
        vecstone.open(path, metric="l2")
    with pytest.raises(ValueError, match="already"):
        vecstone.open(path, flush_interval=5.0)
    second["a"] = rows[0]
    assert np.array_equal(first["a"], rows[0]) and first.dim == DIM
    second.close()
    first["b"] = rows[1]
    first.close()
    with vecstone.open(path) as store:
        assert len(store) == 2


def test_a_handle_that_tells_the_dimension_makes_it_for_the_others(path: Path) -> None:
    with vecstone.open(path) as pending, vecstone.open(path, dim=3) as store:
        assert path.exists() and pending.dim == store.dim == 3
        with pytest.raises(ValueError, match="dim"):
            pending["a"] = [1.0, 2.0]


def _in_another_process(work: Callable[..., None], *args: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=work, args=args)
    process.start()
    process.join()
    assert process.exitcode == 0


def _make(path: Path, metric: Any, ids: list[Any]) -> None:
    with vecstone.open(path, metric=metric) as store:
        store.put_many(ids, np.ones((len(ids), 2)))


def test_another_process_was_first(tmp_path: Path) -> None:
    paths = [tmp_path / str(n) for n in range(6)]
    anyone, fits, l2, ids, exclusive, seen = (
        vecstone.open(paths[0]), vecstone.open(paths[1], metric="l2"), vecstone.open(paths[2], metric="cosine"),
        vecstone.open(paths[3]), vecstone.open(paths[4], mode="x"), vecstone.open(paths[5]))
    for path in paths:
        _in_another_process(_make, path, "l2", ["a", "b"])
    for store in (anyone, fits):
        assert len(store) == 0  # until it writes
        with pytest.raises(ValueError, match="dim"):
            store["c"] = [1.0, 2.0, 3.0]
        store["c"] = [1.0, 2.0]
        assert (list(store), store.metric, store.dim) == (["a", "b", "c"], "l2", 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="measures by l2, not by cosine"):
            l2["c"] = [1.0, 2.0]
        with pytest.raises(FileExistsError, match="already there"):
            exclusive["c"] = [1.0, 2.0]
        with pytest.raises(TypeError):
            ids[7] = [1.0, 2.0]
    with vecstone.open(paths[5]) as again:  # opening it again finds it
        assert len(again) == len(seen) == 2
    for store in (anyone, fits, l2, ids, exclusive, seen):
        store.close()
    for path, rows in zip(paths, (3, 3, 2, 2, 2, 2)):
        with vecstone.open(path, mode="r") as store:
            assert len(store) == rows and store.verify()["ok"]


def test_another_process_writes(path: Path) -> None:
    store = vecstone.open(path)
    there, done = multiprocessing.get_context("spawn").Event(), multiprocessing.get_context("spawn").Event()
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(path, there, done))
    process.start()
    assert there.wait(60)
    with pytest.raises(vecstone.LockedError) as caught:
        store["b"] = [1.0, 2.0]
    assert caught.value.pid == process.pid
    with pytest.raises(vecstone.LockedError):  # before an embedding is paid for
        vecstone.ingest(store, iter([]))
    done.set()
    process.join()
    store["b"] = [1.0, 2.0]
    assert list(store) == ["a", "b"]
    store.close()


def _hold(path: Path, there: Any, done: Any) -> None:
    with vecstone.open(path) as store:
        store.put("a", [1.0, 2.0], durability="sync")
        there.set()
        done.wait(60)


def _file(path: Path) -> None:
    path.write_text("mine")


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def _foreign(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("mine")


def _half_made(path: Path) -> None:
    path.mkdir()
    (path / "LOCK").touch()
    (path / "MANIFEST.new").write_bytes(b"VECMANIF")
    (path / "00000001.dat").write_bytes(b"x" * 256)


def _files(path: Path) -> Any:
    return os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else sorted(os.listdir(path))


@pytest.mark.parametrize("mode", ["a", "x"])
@pytest.mark.parametrize("what", [_file, _link, _foreign])
def test_something_else_stands_there(what: Callable[[Path], None], mode: Any, tmp_path: Path) -> None:
    """By the first write it is refused as `open` refuses it, and left as it is."""
    early, late = tmp_path / "early", tmp_path / "late"
    what(early)
    with pytest.raises((vecstone.Error, OSError)) as at_open:
        vecstone.open(early, mode=mode)
    store = vecstone.open(late, mode=mode)
    what(late)
    there = _files(late)
    for _ in range(2):
        with pytest.raises((vecstone.Error, OSError)) as at_write:
            store["a"] = [1.0, 2.0]
        assert type(at_write.value) is type(at_open.value)
        assert len(store) == 0 and _files(late) == there
    (late / "thesis.txt" if what is _foreign else late).unlink()
    store["a"] = [1.0, 2.0]  # out of the way
    assert len(store) == 1
    store.close()


@pytest.mark.parametrize("mode", ["a", "x"])
@pytest.mark.parametrize("early", [True, False])
def test_a_half_made_store_is_started_over(early: bool, mode: Any, path: Path) -> None:
    if early:
        _half_made(path)
    before = _files(path) if early else {}
    store = vecstone.open(path, mode=mode)
    if early:
        assert _files(path) == before
    else:
        _half_made(path)
    store["a"] = [1.0, 2.0]
    store.close()
    with vecstone.open(path, mode="r") as reader:
        assert list(reader) == ["a"] and reader.verify()["ok"]


def test_open_looks_at_the_parent(path: Path, tmp_path: Path) -> None:
    for mode in ("a", "x"):
        with pytest.raises(FileNotFoundError):
            vecstone.open(tmp_path / "no" / "store", mode=mode)
    (tmp_path / "file").write_text("mine")
    with pytest.raises((OSError, vecstone.NotAStoreError)):
        vecstone.open(tmp_path / "file" / "store")
    assert os.listdir(tmp_path) == ["file"]


def test_the_path_is_that_of_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with vecstone.open("store") as store:
        os.chdir(tmp_path / "elsewhere")
        store["a"] = [1.0]
    assert (tmp_path / "store" / "MANIFEST").exists() and os.listdir(tmp_path / "elsewhere") == []


def test_a_pickled_handle_waits_for_the_store(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, metric="ip", threads=2) as store:
        copied = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(store))))
        _check_empty(copied, "ip")
        assert copied.mode == "r" and copied._threads == 2 and not copied.refresh()
        for call in (lambda: copied.put("a", rows[0]), lambda: copied.put_many(names(2), rows[:2]), copied.clear,
                     lambda: copied.delete("a"), lambda: copied.put_documents(["a"], [1])):
            with pytest.raises(vecstone.ReadOnlyError):
                call()
        held = copied.snapshot()
        store.put("a", rows[0], durability="sync")
        assert len(copied) == 0 and copied.refresh() and not copied.refresh()
        assert np.array_equal(copied["a"], rows[0]) and copied.dim == DIM and len(held) == 0
        with pickle.loads(pickle.dumps(store)) as found:
            assert len(found) == 1
        copied.close()


def test_a_forked_child_reads_an_empty_store(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path) as store:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _check_empty(store)
                refused = 0
                for call in (lambda: store.put("a", rows[0]), store.flush, lambda: store.put_many(names(2), rows[:2]),
                             lambda: store.delete("a")):
                    try:
                        call()
                    except vecstone.ForkedError:
                        refused += 1
                store.close()
                with vecstone.open(path) as own:
                    own["b"] = rows[1]
                status = 0 if refused == 4 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        store["a"] = rows[0]
        assert list(store) == ["b", "a"]


def test_children_forked_beside_the_first_write(tmp_path: Path, rows: np.ndarray) -> None:
    for n in range(20):
        with vecstone.open(tmp_path / str(n)) as store:
            writer = threading.Thread(target=store.put, args=("a", rows[0]))
            writer.start()
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    # The buffer is its parent's alone.
                    status = 0 if len(store) == 0 and store.get("a") is None else 2
                    store.close()
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            writer.join()
            assert len(store) == 1


def test_asyncio(path: Path) -> None:
    async def work() -> None:
        with vecstone.open(path) as store:
            await store.flush_async()
            with pytest.raises(KeyError):
                await store.aput_document("a", 1)
            await asyncio.gather(*(asyncio.to_thread(store.put, f"{n}", [1.0, float(n)]) for n in range(20)))
            await store.aput_document("7", {"x": 1})
            await store.flush_async()
            assert len(store) == 20 and store.get_document("7") == {"x": 1}

    asyncio.run(work())


def _write_first(path: Path, process: int, start: Any) -> list[Any]:
    """What each of eight threads got from its first write through a handle that was opened before anyone wrote."""
    outcomes: list[Any] = [None] * THREADS
    with vecstone.open(path, lock_timeout=60) as store:
        threads = threading.Barrier(THREADS)

        def write(thread: int) -> None:
            threads.wait()
            try:
                store.put(f"{process}-{thread}", np.full(4, thread), {"process": process})
                outcomes[thread] = float(store[f"{process}-{thread}"][0])
            except Exception as error:
                outcomes[thread] = repr(error)

        start.wait()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(write, range(THREADS)))
    return outcomes


def _first_writer(process: int, paths: Any, start: Any) -> None:
    for path in iter(paths.recv, None):
        paths.send(_write_first(path, process, start))


@pytest.fixture
def first_writers() -> Iterator[list[Any]]:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    pipes = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=_first_writer, args=(n, pipe[1], start)) for n, pipe in enumerate(pipes)]
    for process in processes:
        process.start()
    yield [pipe[0] for pipe in pipes]
    for pipe in pipes:
        pipe[0].send(None)
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_two_processes_of_eight_threads_write_first(tmp_path: Path, first_writers: list[Any]) -> None:
    """One makes the store, the other waits until it is closed and opens it: nothing of either is lost."""
    for n in range(ROUNDS):
        path = tmp_path / str(n)
        if n % 4 == 3:
            _half_made(path)
        for pipe in first_writers:
            pipe.send(path)
        for pipe in first_writers:
            assert pipe.recv() == [float(thread) for thread in range(THREADS)], n
        with vecstone.open(path, mode="r") as store:
            assert sorted(store) == sorted(f"{process}-{thread}" for process in range(2) for thread in range(THREADS))
            assert store.get_document("1-7") == {"process": 1} and store.verify()["ok"]
