"""Opening: what stands in the way, who waits for whom, and options."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names


@pytest.mark.parametrize("mode", ["a", "x", "r", "r+"])
def test_a_file_stands_there(tmp_path: Path, mode: Any) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError if mode == "x" else vecstone.NotAStoreError, match="file"):
        vecstone.open(tmp_path / "file", mode=mode)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("mode", ["a", "x", "r", "r+"])
def test_a_foreign_directory_stands_there(tmp_path: Path, mode: Any) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(vecstone.NotAStoreError, match="not ours"):
        vecstone.open(tmp_path / "full", mode=mode)
    assert os.listdir(tmp_path / "full") == ["thesis.txt"]


def test_x_makes_a_store_once(path: Path) -> None:
    path.mkdir()
    vecstone.open(path, mode="x", dim=DIM).close()  # in a directory that is empty
    for _ in range(2):
        with pytest.raises(FileExistsError, match="already there"):
            vecstone.open(path, mode="x")
    with vecstone.open(path), pytest.raises(FileExistsError):
        vecstone.open(path, mode="x")


def test_no_permission() -> None:
    """Root may do everything, so a child becomes nobody first."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        vecstone.open(f"{name}/store", dim=DIM).close()
        os.chmod(f"{name}/store", 0o000 if os.geteuid() else 0o700)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if os.geteuid() == 0:
                    os.setuid(65_534)
                status = sum(_permission_error(path, mode) for path, mode in [
                    (f"{name}/new", "a") if os.geteuid() == 65_534 else (f"{name}/store/new", "a"),
                    (f"{name}/store", "r+"),
                ])
            finally:
                os._exit(0 if status == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.chmod(f"{name}/store", 0o700)


def _permission_error(path: str, mode: Any) -> bool:
    try:
        vecstone.open(path, mode=mode)
    except PermissionError as error:
        return error.errno is not None and path in str(error)
    return False


def test_waiting_for_another_writer(path: Path) -> None:
    code = f"""
        import sys, time, vecstone
        with vecstone.open({str(path)!r}, dim=2) as store:
            print("open", flush=True)
            time.sleep(1)
            store["a"] = [1, 2]
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "open\n"
        with pytest.raises(vecstone.LockedError) as caught:
            vecstone.open(path)
        assert caught.value.pid == writer.pid
        began = time.monotonic()
        with vecstone.open(path, lock_timeout=60) as store:
            assert store["a"].tolist() == [1, 2] and time.monotonic() - began < 50
            store["b"] = [3, 4]
        assert writer.wait() == 0


def test_waiting_in_vain(path: Path) -> None:
    code = f"import vecstone; store = vecstone.open({str(path)!r}, dim=2); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "open\n"
        began = time.monotonic()
        with pytest.raises(vecstone.LockedError):
            vecstone.open(path, lock_timeout=0.6)
        assert time.monotonic() - began >= 0.6
        writer.communicate("\n")


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_threads(path: Path, rows: np.ndarray, threads: int) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(names(100), rows)
        wanted = store.search(rows[3], k=7)
    with vecstone.open(path, threads=threads) as store:
        found = store.search(rows[3], k=7)
        assert found.ids == wanted.ids and np.array_equal(found.distances, wanted.distances)
        assert store.search_many(rows[:4], k=1).ids[:, 0].tolist() == names(4)


@pytest.mark.parametrize("threads", ["1", "3", "nonsense", ""])
def test_threads_of_the_environment(path: Path, rows: np.ndarray, threads: str) -> None:
    """What is no number counts for nothing, as everywhere in the environment."""
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(names(100), rows)
    code = f"""
        import vecstone
        with vecstone.open({str(path)!r}, mode="r") as store:
            print(store.search(store["id-3"], k=1).ids)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
                          env={**os.environ, "VECSTONE_THREADS": threads})
    assert done.stdout == "['id-3']\n", done.stderr
