"""Where the machine lacks something: memory, threads, segments that fit. Each test runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vecstone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of the process")

_BEFORE = """
import os, resource, sys
import numpy as np, vecstone
path = sys.argv[1]
def leave(megabytes):
    used = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), resource.RLIM_INFINITY))
def lacks(call):
    try:
        found = call()
    except MemoryError as error:
        return str(error)
    raise AssertionError(f"{call} returned {type(found)}")
"""


def run(code: str, path: Path, **env: str) -> str:
    """What a program prints that runs by itself."""
    done = subprocess.run([sys.executable, "-c", _BEFORE + code, path], capture_output=True, text=True,
                          env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "RUST_BACKTRACE": "1"} | env)
    assert done.returncode == 0, done.stderr
    assert "panicked" not in done.stderr, done.stderr
    return done.stdout


def test_what_memory_cannot_hold_is_a_memory_error(path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(60_000, 1000)).astype("float32")
    with vecstone.open(path) as store:
        store.put_many(range(len(rows)), rows)
        store.put_document(7, "x" * 150_000_000)
    code = """
ids = range(60_000)
one = [1.0] * 1000
with vecstone.open(path) as store:
    snapshot = store.snapshot()
    assert len(store.search(one, 3)) == len(snapshot.search(one, 3)) == 3
    import pyarrow
    leave(100)
    for reading in (store, snapshot):
        lacks(lambda: reading.get_many(ids))
        assert "not enough memory for" in lacks(lambda: reading.search(one, 10**6, with_vectors=True))
        lacks(lambda: reading.search_many([one] * 9000, 9000))
        lacks(lambda: reading.get_documents([1, 7]))
        lacks(lambda: reading.get_document(7))
        lacks(lambda: reading.search(one, 10**6, with_documents=True))
        lacks(lambda: reading.to_arrow())
    lacks(lambda: store.put_many(ids, np.broadcast_to(np.float64(1), (60_000, 1000)).tolist()))
    lacks(lambda: store.search_many(np.broadcast_to(np.float64(1), (60_000, 1000)), 1))
    assert len(store.search(one, 10**6)) == 60_000
    store.put(60_000, one)
    store.flush()
    assert len(store) == 60_001 and store.get_many([60_000]).shape == (1, 1000)
print("whole")
"""
    assert run(code, path) == "whole\n"


def test_everything_works_where_no_thread_can_be_started(path: Path) -> None:
    code = """
leave(4000)
rows = np.random.default_rng(1).normal(size=(30_000, 64)).astype("float32")
with vecstone.open(path, buffer_bytes=1 << 20, flush_interval=0.01) as store:
    for first in range(0, 30_000, 3000):
        store.put_many(range(first, first + 3000), rows[first:first + 3000], [{"n": n} for n in range(3000)])
    for n in range(200):
        store.put(n, rows[n])
    store.flush()
    store.delete_many(range(10))
    store.optimize()
    store.compact()
    assert store.search(rows[77], 1).ids == [77]
    assert store.search_many(rows[100:400], 1).ids[:, 0].tolist() == list(range(100, 400))
    assert len(store.ids_where({"n": {"$lt": 20}})) == 190
    assert store.delete_where({"n": 2999}) == 10
    assert (store.get_many(range(20, 2000)) == rows[20:2000]).all()
    store.backup(path + "-copy")
    assert store.verify()["ok"] and store.to_arrow().num_rows == len(store)
print("whole")
"""
    assert run(code, path, RUST_MIN_STACK=str(10**12)) == "whole\n"


def test_an_import_without_threads(path: Path) -> None:
    file = path.with_suffix(".npy")
    np.save(file, np.eye(300, dtype="float32"))
    code = """
leave(4000)
from vecstone._core import run_command_line
assert run_command_line(["vecstone", "import", path, sys.argv[1] + ".npy", "--batch-rows", "10"]) == 0
"""
    assert "imported 300 rows" in run(code.replace('sys.argv[1] + ".npy"', repr(os.fspath(file))), path,
                                      RUST_MIN_STACK=str(10**12))
