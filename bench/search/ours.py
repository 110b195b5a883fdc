"""vecstone as the benchmark uses it: made, filled, with codes or without, and asked what it did."""

import inspect
import time
from pathlib import Path

import numpy as np
import vecstone

QUIET = 5  # seconds without work after which the background is taken to have none


class MissingError(Exception):
    """This vecstone does not have what the row is about."""


def create(path: Path, dim: int, *, automatic: bool = False, threads: int = 1, **options) -> vecstone.Store:
    """An empty store. `automatic`: codes are built in the background; else by `optimize` alone."""
    known = inspect.signature(vecstone.open).parameters
    if not automatic and "auto_optimize_rows" in known:
        options["auto_optimize_rows"] = 0
    for name in options:
        if name not in known:
            raise MissingError(f"open() has no {name}")
    return vecstone.open(path, dim=dim, metric="cosine", mode="x", threads=threads, **options)


def filled(path: Path, rows: np.ndarray, **options) -> vecstone.Store:
    """A store of these rows under their numbers, which the background has nothing to do for."""
    store = create(path, rows.shape[1], **options)
    add(store, rows, 0, len(rows))
    settle(store)
    return store


def add(store: vecstone.Store, rows: np.ndarray, start: int, stop: int, batch: int = 50_000) -> None:
    for at in range(start, stop, batch):
        end = min(at + batch, stop)
        store.put_many(np.arange(at, end, dtype=np.uint64), rows[at:end])
    store.flush()


def optimized(path: Path, rows: np.ndarray, **options) -> vecstone.Store:
    store = filled(path, rows, **options)
    optimize(store)
    return store


def optimize(store: vecstone.Store) -> None:
    if not hasattr(store, "optimize"):
        raise MissingError("a store has no optimize()")
    store.optimize()
    require_codes(store)


def require_codes(store: vecstone.Store) -> None:
    if not side_bytes(store):
        raise MissingError("the store has no side files, hence no codes")


def side_bytes(store: vecstone.Store) -> int:
    return store.stats()["bytes"]["side"]


def settle(store: vecstone.Store, limit: float = 1800) -> None:
    """Waits until for some seconds no thread computes and no side file grows."""
    quiet, end = 0, time.monotonic() + limit
    while quiet < QUIET:
        if time.monotonic() > end:
            raise TimeoutError(f"the background is still at work after {limit:.0f} s")
        side, used = side_bytes(store), time.process_time()  # stats() computes, too
        time.sleep(1)
        idle = time.process_time() - used < 0.02 and side_bytes(store) == side
        quiet = quiet + 1 if idle else 0


def await_work(limit: float = 10) -> None:
    """Returns when a thread of the background computes, or after some seconds."""
    end = time.monotonic() + limit
    busy = 0
    while busy < 3 and time.monotonic() < end:
        used = time.process_time()
        time.sleep(0.1)
        busy = busy + 1 if time.process_time() - used > 0.02 else 0


def about(store: vecstone.Store, query: np.ndarray) -> dict:
    """What the store says of itself and of one search, for the results."""
    told = {"stats": {name: value for name, value in store.stats().items() if name not in ("path", "per_segment")}}
    if "explain" in inspect.signature(store.search).parameters:
        told["explain"] = store.search(query, 10, explain=True).explain
    return told
