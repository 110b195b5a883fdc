"""Ctrl-C in calls that take long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    """Python's own: what starts the tests in the background may have told the process to ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def locked(path: Path) -> Iterator[Callable[[], None]]:
    """Another process writes the store; what is given ends it."""
    code = "import sys, vecstone; store = vecstone.open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin and other.stdout
        other.stdout.readline()

        def release() -> None:
            other.communicate()

        yield release
        other.stdin.close()


def press_soon() -> None:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_a_wait_for_the_lock(path: Path) -> None:
    vecstone.open(path, dim=2).close()
    with locked(path):
        press_soon()
        with pytest.raises(KeyboardInterrupt):
            vecstone.open(path, lock_timeout=60)


def test_a_handler_that_raises_nothing_lets_the_call_go_on(path: Path) -> None:
    vecstone.open(path, dim=2).close()
    before = signal.getsignal(signal.SIGINT)
    with locked(path) as release:
        heard: list[Any] = []

        def hear(*_: Any) -> None:
            heard.append(_)
            release()

        signal.signal(signal.SIGINT, hear)
        try:
            press_soon()
            with vecstone.open(path, lock_timeout=60) as store:
                store["a"] = [1, 2]
        finally:
            signal.signal(signal.SIGINT, before)
    assert len(heard) == 1


@pytest.mark.parametrize("codes", [False, True])
def test_a_search_of_many(path: Path, codes: bool) -> None:
    rows = np.random.default_rng(3).normal(size=(20_000, 64)).astype("float32")
    with vecstone.open(path, auto_optimize_rows=0) as store:
        store.put_many(range(len(rows)), rows)
        if codes:
            store.optimize()
        for reading in (store, store.snapshot()):
            press_soon()
            with pytest.raises(KeyboardInterrupt):
                reading.search_many(np.tile(rows, (20, 1)))
        press_soon()
        with pytest.raises(KeyboardInterrupt):
            store.tune(np.tile(rows, (20, 1)))
        assert store.search(rows[7], k=1).ids == [7]


def test_a_press_is_heard_once(path: Path) -> None:
    """Whoever listens to signals by their numbers, as asyncio does, hears of each press once."""
    import asyncio

    vecstone.open(path, dim=2).close()
    heard: list[int] = []

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        with locked(path) as release:
            loop.add_signal_handler(signal.SIGINT, heard.append, 1)
            press_soon()
            threading.Timer(1.0, release).start()
            with vecstone.open(path, lock_timeout=60) as store:
                store["a"] = [1, 2]
            await asyncio.sleep(0.2)
            loop.remove_signal_handler(signal.SIGINT)

    asyncio.run(wait())
    assert heard == [1]
