"""The figures of one store, in turns with the machine's limit where there is one. Runs in a process of its own."""

import importlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

TURNS = 7
SECONDS = 60  # for the turns of one figure: at least one is finished, however slow
BURST = 15_000
LESS_IS_BETTER = {"ms", "us", "of raw", "MB"}

# What the project has set itself: limit and ratio to it, by figure. A limit of None is measured in turns.
TARGETS = {
    "put_many": (None, 0.9),
    "put_many vs numpy": (None, 1.0),
    "put": (300e3, 1.0),
    "get": (550e3, 1.0),
    "get scattered": (550e3, 1.0),
    "get_many": (2.5e6, 1.0),
    "get_many vs numpy": (None, 1.3),
    "import": (30.0, 1.0),
    "search overhead": (5.0, 1.0),
}


@dataclass
class Figure:
    figure: str
    unit: str
    value: float
    limit: float | None = None
    target: float | None = None
    turns: int = 1
    note: str = ""

    @property
    def ratio(self) -> float | None:
        if self.limit is None:
            return None
        return self.limit / max(self.value, 1e-9) if self.unit in LESS_IS_BETTER else self.value / self.limit


def load(name: str):
    return importlib.import_module(f"peers.{name}").Peer


def mixture(rows: int, dim: int, seed: int) -> np.ndarray:
    """Points around 1,000 centres on the sphere, normalised: clustered as embeddings are."""
    centres = np.random.default_rng(0).standard_normal((1000, dim), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, dim), np.float32)
    vectors *= np.float32(0.35 / dim**0.5)
    vectors += centres[random.integers(1000, size=rows)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def turns(*sides: Callable[[], float], most: int = TURNS) -> list[list[float]]:
    """What the sides measure, one after the other in each turn. The first turn warms up, if time allows a second."""
    start, results = time.perf_counter(), []
    while len(results) <= most and (not results or time.perf_counter() - start < SECONDS):
        results.append([side() for side in sides])
    return [list(side) for side in zip(*(results[1:] or results))]


def rate(call: Callable[[object], object], items: list, seconds: float = 1.0, clock=time.perf_counter) -> float:
    """Calls a second of the clock, over all items or until the time is over."""
    start, done, step = clock(), 0, max(1, min(100, len(items) // 20))
    while done < len(items) and (not done or clock() - start < seconds):
        for item in items[done : done + step]:
            call(item)
        done += step
    return min(done, len(items)) / (clock() - start)


def raw_write(path: Path, vectors: np.ndarray) -> float:
    """Seconds that these bytes take, 1 MiB at a time, one sync."""
    data = memoryview(vectors).cast("B")
    start = time.perf_counter()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for at in range(0, len(data), 1 << 20):
        os.pwrite(file, data[at : at + (1 << 20)], at)
    os.fdatasync(file)
    took = time.perf_counter() - start
    os.close(file)
    path.unlink()
    return took


def appends(path: Path, count: int) -> float:
    """Appends of 4 KiB a second, each synced."""
    with open(path, "wb", buffering=0) as file:
        took = timed(lambda: [(file.write(bytes(4096)), os.fdatasync(file.fileno())) for _ in range(count)])
    path.unlink()
    return count / took


def size(path: Path) -> int:
    """Allocated bytes."""
    return sum(os.lstat(os.path.join(at, name)).st_blocks * 512 for at, _, names in os.walk(path) for name in names)


class Measure:
    """All figures of one peer, in the order in which a store lives: filled, opened, read, halved, written to."""

    def __init__(self, name: str, rows: int, dim: int, place: Path, runner: list[str]):
        self.name, self.rows, self.dim, self.place, self.runner = name, rows, dim, place, runner
        self.Peer, self.path = load(name), place / "store"
        self.vectors = mixture(rows, dim, 1)
        self.ids = [f"vec_{row:07}" for row in range(rows)]
        self.random = np.random.default_rng(2)
        self.peer = None

    def open(self):
        self.peer = self.Peer(self.path, self.dim)

    def close(self):
        if self.peer is not None:
            self.peer.close()
            self.peer = None

    def all(self) -> Iterator[Figure]:
        figures = [self.put_many, self.first_get, self.get, self.get_many, self.search, self.halve, self.put]
        if self.name == "ours":
            figures += [self.import_time, self.search_overhead]
        for figure in figures:
            try:
                yield from figure()
            except NotImplementedError:
                yield Figure(figure.__name__, "", 0, note="it has none")
            except Exception as error:  # of any peer: the others go on
                yield Figure(figure.__name__, "", 0, note=f"{type(error).__name__}: {error}"[:200])
        self.close()

    def figure(self, name: str, unit: str, values: list[float], limits: list[float] | None = None) -> Figure:
        limit, target = TARGETS.get(name, (None, None)) if self.name == "ours" else (None, None)
        if limits is not None:
            limit = median(limits)
        return Figure(name, unit, median(values), limit, target, len(values))

    def put_many(self):
        def fill(Peer):
            shutil.rmtree(self.path, ignore_errors=True)
            self.path = self.place / f"store-{next(names)}"  # a new one: some keep state by path
            start = time.perf_counter()
            peer = Peer(self.path, self.dim)
            peer.put_many(self.ids, self.vectors)
            peer.commit()
            took = time.perf_counter() - start
            peer.close()
            return mb / took

        mb, names = self.vectors.nbytes / 1e6, itertools.count()
        sides = [lambda: mb / raw_write(self.place / "raw", self.vectors)]
        if self.name == "ours":
            sides.append(lambda: fill(load("numpy_pickle")))
        *limits, ours = turns(*sides, lambda: fill(self.Peer))
        yield self.figure("put_many", "MB/s", ours, limits[0])
        if self.name == "ours":
            yield self.figure("put_many vs numpy", "MB/s", ours, limits[1])
        self.open()
        took = timed(self.peer.ready)
        if self.Peer.ready is not load("numpy_pickle").ready:
            yield self.figure("ready", "s", [took])
        self.close()
        yield self.figure("disk", "of raw", [size(self.path) / self.vectors.nbytes])

    def first_get(self):
        """Open to first get, each in a fresh process, and what it costs in memory beyond the imported library."""
        child = [*self.runner, "--child", "first", self.name, str(self.path)]
        runs = []
        for _ in range(TURNS):
            answer = subprocess.run(child, capture_output=True, text=True, check=False, timeout=SECONDS)
            if answer.returncode:
                raise RuntimeError((answer.stderr.strip().splitlines() or ["no message"])[-1])
            runs.append([float(word) for word in answer.stdout.split()])
        opened, memory, searched = zip(*runs)
        yield self.figure("open to first get", "ms", list(opened))
        yield self.figure("memory after it", "MB", list(memory))
        yield self.figure("memory after a search", "MB", list(searched))

    def get(self):
        self.open()
        for row in range(0, self.rows, 97):
            if not np.allclose(self.peer.get(self.ids[row]), self.vectors[row], atol=1e-6):
                raise RuntimeError(f"get of {self.ids[row]} gives another vector")
        scattered = [self.ids[row * 7919 % self.rows] for row in range(self.rows)]
        yield self.figure("get", "/s", *turns(lambda: rate(self.peer.get, self.ids)))
        yield self.figure("get scattered", "/s", *turns(lambda: rate(self.peer.get, scattered)))

    def get_many(self):
        rows = np.stack([self.random.permutation(self.rows)[:1000] for _ in range(100)])
        some = [[self.ids[row] for row in wanted] for wanted in rows]
        if not np.allclose(self.peer.get_many(some[0]), self.vectors[rows[0]], atol=1e-6):
            raise RuntimeError("get_many gives other vectors")
        sides = [lambda: rows.shape[1] * rate(self.peer.get_many, some)]
        if self.name == "ours":
            plain = load("numpy_pickle")(self.place / "numpy", self.dim)
            plain.put_many(self.ids, self.vectors)
            plain.commit()
            sides.append(lambda: rows.shape[1] * rate(plain.get_many, some))
        measured, *limits = turns(*sides)
        yield self.figure("get_many", "vectors/s", measured)
        if limits:
            yield self.figure("get_many vs numpy", "vectors/s", measured, limits[0])
            plain.close()
            shutil.rmtree(self.place / "numpy")

    def search(self):
        if self.peer is None:
            self.open()
        queries = list(mixture(20, self.dim, 3))
        nearest = np.argsort(-(np.stack(queries) @ self.vectors.T), axis=1)[:, :10]
        found = [set(self.peer.search(query, 10)) for query in queries]
        true = [{self.ids[row] for row in rows} for rows in nearest]
        yield self.figure("recall", "", [sum(len(f & t) for f, t in zip(found, true)) / 200])
        yield self.figure("search", "/s", *turns(lambda: rate(lambda query: self.peer.search(query, 10), queries, 2.0)))

    def halve(self):
        half = [self.ids[row] for row in self.random.permutation(self.rows)[: self.rows // 2]]
        if self.peer is None:
            self.open()
        yield self.figure("delete half", "s", [timed(lambda: (self.peer.delete(half), self.peer.commit()))])
        yield self.figure("compact", "s", [timed(self.peer.compact)])
        self.close()
        yield self.figure("disk of half", "of raw", [size(self.path) / (self.vectors.nbytes / 2)])

    def put(self):
        """Of new ids, in bursts: what a loop of puts sees that commits at its end."""
        self.open()
        rows = list(mixture(BURST, self.dim, 4))
        fresh = itertools.count()

        def burst():
            pairs = [(f"put_{next(fresh):09}", row) for row in rows]
            speed = rate(lambda pair: self.peer.put(*pair), pairs)
            self.peer.commit()
            return speed

        yield self.figure("put", "/s", *turns(burst))

    def put_durable(self) -> Iterator[Figure]:
        """One round: single puts, each durable when it returns. The runner makes rounds of it over all peers."""
        self.open()
        self.peer.put_many(self.ids, self.vectors)
        self.peer.commit()
        limit = appends(self.place / "raw", 150)
        pairs = [(f"put_{number:09}", row) for number, row in enumerate(mixture(150, self.dim, 4))]
        speed = rate(lambda pair: self.peer.put_durable(*pair), pairs, 5.0)
        yield self.figure("put durable", "/s", [speed], [limit])
        self.close()

    # ---- ours only ----

    def import_time(self):
        code = "import numpy, time; t = time.perf_counter(); import vecstone; print((time.perf_counter() - t) * 1e3)"
        run = [sys.executable, "-c", code]
        took = [float(subprocess.run(run, capture_output=True, text=True, check=True).stdout) for _ in range(21)]
        yield self.figure("import", "ms", took[1:])

    def search_overhead(self):
        """What a search of one row of 8 components costs in Python above the same call in Rust."""
        import vecstone

        native = getattr(getattr(vecstone, "_core", None), "_bench_search", None)
        if native is None:
            yield Figure("search overhead", "", 0, note="skipped: this build has no vecstone._core._bench_search")
            return
        query, times = np.ones(8, np.float32), 20_000
        with vecstone.open(self.place / "tiny", dim=8) as store:
            store["one"] = query
            store.flush()

            def python():
                return timed(lambda: [store.search(query, 10) for _ in range(times)])

            both = turns(python, lambda: native(store, query, 10, times))
        yield self.figure("search overhead", "us", [(p - n) / times * 1e6 for p, n in zip(*both)])


def first(name: str, path: Path, rows: int, dim: int) -> tuple[float, float, float]:
    """In a fresh process: milliseconds from open to the first get, MB of memory it added, and with a search."""

    def memory():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1e3

    Peer = load(name)
    query = np.ones(dim, np.float32) / np.float32(dim**0.5)
    before, start = memory(), time.perf_counter()
    peer = Peer(path, dim)
    try:
        peer.get(f"vec_{rows // 2:07}")
    except NotImplementedError:
        peer.search(query, 10)
    took, after = (time.perf_counter() - start) * 1e3, memory()
    try:
        peer.search(query, 10)
    except NotImplementedError:
        pass
    return took, after - before, memory() - before


def lines(figures: Iterator[Figure], name: str) -> Iterator[dict]:
    Peer = load(name)
    about = {
        "peer": name,
        "version": version(Peer.package),
        "used": " ".join(sys.modules[Peer.__module__].__doc__.split()),
        "durability": Peer.durability,
        "durable": Peer.durable,
        "exact": Peer.exact,
    }
    for figure in figures:
        yield about | asdict(figure)
