"""Handles: several in a process, pickled, forked, spawned, used by many threads, left open at the end."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names


def test_handles_of_one_process_share_the_engine(path: Path, rows: np.ndarray) -> None:
    first = vecstone.open(path, dim=DIM)
    link = path.parent / "link"
    link.symlink_to(path)
    second = vecstone.open(link, durability="sync")
    first["a"] = rows[0]
    assert np.array_equal(second["a"], rows[0])
    first.close()
    second["b"] = rows[1]
    with pytest.raises(ValueError, match="closed"):
        first["a"]
    with pytest.raises(ValueError, match="buffer_bytes"):
        vecstone.open(path, buffer_bytes=1 << 20)
    with pytest.raises(ValueError, match="dim"):
        vecstone.open(path, dim=3)
    second.close()
    with vecstone.open(path, mode="r+", buffer_bytes=1 << 20) as store:
        assert list(store) == ["a", "b"]


def test_another_process_is_locked_out(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store["a"] = rows[0]
        store.flush()
        code = f"""
            import vecstone
            try:
                vecstone.open({str(path)!r})
            except vecstone.LockedError as error:
                assert error.pid == {os.getpid()}, error.pid
                assert len(vecstone.open({str(path)!r}, mode="r")) == 1
                print("locked")
        """
        assert _python(code) == "locked\n"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_a_full_disk_tells_its_number_and_what_is_kept(path: Path) -> None:
    assert _python(f"""
        import errno, resource
        import vecstone
        store = vecstone.open({str(path)!r}, dim=4, flush_interval=1000)
        store["a"] = [1, 2, 3, 4]
        store.flush()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
        for write in (
            lambda: store.put("b", [5, 6, 7, 8], durability="sync"),
            lambda: store.flush(),
        ):
            try:
                write()
            except OSError as error:
                assert (error.errno, error.kept) == (errno.EFBIG, True), error
            else:
                raise AssertionError("there was room")
        try:
            store.clear()
        except OSError as error:
            assert (error.errno, error.kept) == (errno.EFBIG, False), error
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        store.flush()
        print(len(store))
    """) == "2\n"


def test_what_is_left_open_is_flushed_at_the_end(path: Path) -> None:
    assert _python(f"""
        import vecstone
        store = vecstone.open({str(path)!r}, dim=2, flush_interval=1000)
        store["a"] = [1, 2]
        keep = [store]
        keep.append(keep)
    """) == ""
    with vecstone.open(path, mode="r") as store:
        assert store["a"].tolist() == [1, 2]


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _read(store: vecstone.Store, ids: list[str]) -> tuple[int, str, np.ndarray]:
    return os.getpid(), store.mode, store.get_many(ids)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pickled_handle_reads_in_another_process(method: str, path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(names(100), rows)
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            for pid, mode, found in pool.map(_read, [store] * 4, [names(100)] * 4):
                assert pid != os.getpid() and mode == "r" and np.array_equal(found, rows)
        copied = pickle.loads(pickle.dumps(store))
        assert copied.mode == "r" and len(copied) == 100
        copied.close()


def _worker(store: vecstone.Store, indexes: list[int], results: Any) -> None:
    """What a DataLoader's worker does with the store that its data set holds."""
    found = np.stack([store[f"id-{n}"] for n in indexes])
    hits = [store.search(vector, k=1).ids[0] for vector in found]
    with ThreadPoolExecutor(2) as pool:
        hits += list(pool.map(lambda vector: store.search(vector, k=1).ids[0], found))
    try:
        store["new"] = found[0]
        wrote = store.mode != "r"
    except (vecstone.ForkedError, vecstone.ReadOnlyError):
        wrote = False
    results.put((found, hits, wrote))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("mode", ["a", "r"])
def test_workers_read_through_their_parents_handle(method: str, mode: Any, path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(names(100), rows)
        store.flush()
        if mode == "r":
            store.close()
    with vecstone.open(path, mode=mode) as store:
        store.search(rows[0])
        context: Any = multiprocessing.get_context(method)
        results = context.Queue()
        parts = [list(range(n, 100, 4)) for n in range(4)]
        workers = [context.Process(target=_worker, args=(store, part, results)) for part in parts]
        for worker in workers:
            worker.start()
        seen = [results.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        assert not any(wrote for _, _, wrote in seen)
        found = np.concatenate([found for found, _, _ in seen])
        assert sorted(map(tuple, found)) == sorted(map(tuple, rows))
        for found, hits, _ in seen:
            assert hits[: len(found)] == hits[len(found) :]
            assert all(np.array_equal(store[id], vector) for id, vector in zip(hits, found))
        if mode == "a":
            store["after"] = rows[0]  # the parent goes on
            assert len(store) == 101


def test_a_child_may_open_what_its_parent_has_open(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store["a"] = rows[0]
        store.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                try:
                    vecstone.open(path)
                except vecstone.LockedError:
                    with vecstone.open(path, mode="r") as reader:
                        status = 0 if np.array_equal(reader["a"], rows[0]) and len(store) == 1 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_many_threads(path: Path) -> None:
    with vecstone.open(path, dim=4, buffer_bytes=1 << 16) as store:
        errors: list[BaseException] = []

        def work(thread: int) -> None:
            try:
                for n in range(300):
                    id, vector = f"{thread}-{n % 20}", np.full(4, n, dtype="float32")
                    store.put(id, vector, {"thread": thread}, durability="sync" if n % 100 == 0 else None)
                    assert store[id][0] == n and store.get_document(id) == {"thread": thread}
                    if n % 10 == 0:
                        assert store.search(vector, k=1, filter={"thread": thread}).distances.shape == (1,)
                        assert np.array_equal(store.get_many([id])[0], vector)
                    if n % 30 == 29:
                        assert store.delete(id) and id not in store
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors[0]
        assert len(store) == 8 * 19 - sum(1 for _ in ())  # of 20 ids each, one is deleted at the end


def test_closing_while_others_read(path: Path, rows: np.ndarray) -> None:
    for _ in range(20):
        store = vecstone.open(path, dim=DIM)
        store.put_many(names(100), rows)
        started, stop = threading.Barrier(5), threading.Event()

        def read(store: vecstone.Store = store, started: threading.Barrier = started) -> str:
            started.wait()
            for n in range(10**6):
                try:
                    store[f"id-{n % 100}"]
                    store.search(rows[0], k=1)
                except ValueError as error:
                    return str(error)
            return "never"

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(4)]
            started.wait()
            store.close()
            assert all("closed" in reader.result() for reader in readers)
        assert not stop.is_set()


def test_a_changing_array_is_copied_before_it_is_summed(path: Path) -> None:
    array = np.zeros((20_000, 128), dtype="float32")
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            array[:] = np.random.default_rng().integers(0, 100)

    thread = threading.Thread(target=change)
    thread.start()
    with vecstone.open(path, dim=128, buffer_bytes=1 << 20) as store:
        for _ in range(5):
            store.put_many(np.arange(20_000), array)
        store.flush()
        done.set()
        thread.join()
        assert store.verify()["ok"] is True
        store.get_many(np.arange(20_000))
