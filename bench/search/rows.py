"""The measurements, each in a process of its own: ours and a peer in turns in each round, one query a call.

Rates are queries a second of CPU time of the process, which is pinned to one core, unless a row says otherwise.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import vecstone

from bench.measure import Figure, rate, timed, turns
from bench.search import ours
from bench.search.data import Data
from bench.search.peers import Flat, Hnsw, K, NumPy, recall

ROUNDS = 5
MANY = 256  # queries at once
Rate = Callable[[], float]


@dataclass
class Row(Figure):
    """A figure with the other side's name, the rounds behind it and what the store said of itself."""

    row: str = ""
    peer: str = ""
    rounds: dict[str, list[float]] = field(default_factory=dict)
    about: dict = field(default_factory=dict)
    scaled: bool = True  # its target is lower on AVX2


def compared(figure: str, target: float | None, theirs: list[float], our: list[float], **more) -> Row:
    rounds = {"theirs": theirs, "ours": our}
    return Row(figure, "/s", median(our), median(theirs), target, len(our), rounds=rounds, **more)


def shape(rows: np.ndarray) -> str:
    return f"{len(rows):,} x {rows.shape[1]}"


def cpu_rate(search: Callable, queries: np.ndarray) -> Rate:
    return partial(rate, search, list(queries), 1.0, time.process_time)


def wall_rate(search: Callable, queries: np.ndarray) -> Rate:
    return partial(rate, search, list(queries))


def searching(store: vecstone.Store, **options) -> Callable:
    return lambda query: store.search(query, K, **options)


def ids_of(store: vecstone.Store) -> Callable:
    return lambda query: store.search(query, K).ids


@dataclass
class Bench:
    """Where the data is and where stores are made; each row is a method that yields its figures."""

    data: Data
    place: Path
    made: int = 0

    def path(self) -> Path:
        self.made += 1
        return self.place / f"store-{self.made}"

    def against_flat(self, store, rows, queries, figure: str, target: float, flat_rows: int = 0) -> Iterator[Row]:
        """Exact search against FAISS Flat, which may have a part of the rows only: its time grows with them."""
        flat_rows = flat_rows or len(rows)
        flat, scale = Flat(rows[:flat_rows]), flat_rows / len(rows)
        theirs, our = turns(cpu_rate(flat.search, queries), cpu_rate(searching(store), queries), most=ROUNDS)
        peer = flat.name + (f", scaled from {flat_rows:,} rows" if scale < 1 else "")
        theirs = [one * scale for one in theirs]
        yield compared(figure, target, theirs, our, peer=peer, about=ours.about(store, queries[0]))
        some = queries[: 50 if len(rows) <= 100_000 else 20]
        found = recall(ids_of(store), rows, some)
        yield Row(f"{figure}: recall of {len(some)} queries", "", found, 1.0, 1.0, peer="float64", scaled=False)

    def plain(self) -> Iterator[Row]:
        """Without codes. Against a read loop of the same bytes: `make bench-rust FIGURES=search`."""
        rows, queries = self.data.clusters(100_000, 768)
        store = ours.filled(self.path(), rows)
        yield from self.against_flat(store, rows, queries, f"plain scan, clusters {shape(rows)}", 1.1)

    def clusters(self) -> Iterator[Row]:
        rows, queries = self.data.clusters(100_000, 768)
        store = ours.optimized(self.path(), rows)
        yield from self.against_flat(store, rows, queries, f"over codes, clusters {shape(rows)}", 25)
        share = ours.side_bytes(store) / rows.nbytes
        yield Row(f"side files, {shape(rows)}", "of raw", share, 0.25, 1.0, peer="set by the project", scaled=False)

    def million(self) -> Iterator[Row]:
        rows, queries = self.data.clusters(1_000_000, 768)
        store = ours.optimized(self.path(), rows)
        figure = f"over codes, clusters {shape(rows)}"
        yield from self.against_flat(store, rows, queries, figure, 50, flat_rows=len(rows) // 5)

    def real(self) -> Iterator[Row]:
        rows, queries = self.data.real()
        store = ours.optimized(self.path(), rows)
        yield from self.against_flat(store, rows, queries, f"over codes, MiniLM {shape(rows)}", 12)

    def noise(self) -> Iterator[Row]:
        """Nothing can be left out of it: what codes cost where they are of no use."""
        rows, queries = self.data.isotropic(100_000, 768)
        plain, coded = ours.filled(self.path(), rows), ours.optimized(self.path(), rows)
        sides = cpu_rate(searching(plain), queries), cpu_rate(searching(coded), queries)
        figure, told = f"over codes, noise {shape(rows)}", ours.about(coded, queries[0])
        yield compared(figure, 0.9, *turns(*sides, most=ROUNDS), peer="our plain scan", about=told)

    def many(self) -> Iterator[Row]:
        sets = {"MiniLM": self.data.real, "clusters": partial(self.data.clusters, 100_000, 768)}
        for name, make in sets.items():
            rows, queries = make()
            queries, store = np.ascontiguousarray(queries[:MANY]), ours.optimized(self.path(), rows)
            sides = NumPy(np.array(rows)).search_many, lambda queries: store.search_many(queries, K)
            rates = [lambda call=call: MANY * rate(call, [queries], clock=time.process_time) for call in sides]
            theirs, our = turns(*rates, most=ROUNDS)
            figure, real = f"{MANY} at once, {name} {shape(rows)}", name == "MiniLM"
            yield compared(figure, 3 if real else 8, theirs, our, peer="NumPy", about=ours.about(store, queries[0]))
            if real:
                best = compared(f"{figure}: best round", 2, theirs, our, peer="NumPy's best round")
                best.limit = max(theirs)
                yield best

    def threads(self) -> Iterator[Row]:
        """Wall time on two cores, against what a loop that reads memory gains when two threads run it."""
        rows, queries = self.data.clusters(100_000, 768)
        yield from self.two_threads("plain scan, clusters", ours.filled, rows, queries)
        rows, queries = self.data.real()
        yield from self.two_threads("over codes, MiniLM", ours.optimized, rows, queries)

    def two_threads(self, name: str, make: Callable, rows, queries, search=searching) -> Iterator[Row]:
        from concurrent.futures import ThreadPoolExecutor

        loops, bytes_ = ThreadPoolExecutor(2), np.array(rows).view(np.int32)
        one, two = (make(self.path(), rows, threads=threads) for threads in (1, 2))
        sides = [
            lambda: 1 / timed(bytes_.max),
            lambda: 2 / timed(lambda: list(loops.map(lambda _: bytes_.max(), range(2)))),
            wall_rate(search(one), queries),
            wall_rate(search(two), queries),
        ]
        rounds = dict(zip(("read 1", "read 2", "search 1", "search 2"), turns(*sides, most=ROUNDS)))
        read1, read2, search1, search2 = map(median, rounds.values())
        figure, peer = f"two threads, {name} {shape(rows)}", "two read loops"
        yield Row(figure, "times one", search2 / search1, read2 / read1, 0.9, ROUNDS, peer=peer, rounds=rounds)

    def filter(self) -> Iterator[Row]:
        rows, queries = self.data.clusters(100_000, 768)
        plain, coded = ours.filled(self.path(), rows), ours.optimized(self.path(), rows)
        random = np.random.default_rng(3)
        pick = partial(random.choice, len(rows), len(rows) // 100, replace=False)
        pairs = [(query, pick().astype(np.uint64)) for query in queries]
        filtered = partial(rate, lambda pair: coded.search(pair[0], K, filter=pair[1]), pairs, 1.0, time.process_time)
        theirs, our = turns(cpu_rate(searching(plain), queries), filtered, most=ROUNDS)
        told = ours.about(coded, queries[0])
        yield compared(f"1 % by ids, clusters {shape(rows)}", 30, theirs, our, peer="our plain scan of all", about=told)

    def build(self) -> Iterator[Row]:
        """CPU of all threads. Three rounds: hnswlib takes half a minute."""
        rows, _ = self.data.real()

        def optimize() -> float:
            store = ours.filled(self.path(), rows)
            start = time.process_time()
            ours.optimize(store)
            took = time.process_time() - start
            store.close()
            return len(rows) / took

        def hnsw() -> float:
            start = time.process_time()
            Hnsw(rows)
            return len(rows) / (time.process_time() - start)

        our, theirs = zip(*[(optimize(), hnsw()) for _ in range(3)])
        row = compared(f"ready, MiniLM {shape(rows)}", 10, list(theirs), list(our), peer=Hnsw.name)
        row.unit = "rows/s"
        yield row

    def grown(self) -> Iterator[Row]:
        """From 30,000 rows, which have their codes, to 100,000 by appends; what the background did counts, alone."""
        rows, queries = self.data.clusters(100_000, 768)
        store, first = ours.create(self.path(), rows.shape[1], automatic=True), len(rows) * 3 // 10
        ours.add(store, rows, 0, first)
        ours.settle(store)
        ours.add(store, rows, first, len(rows), batch=1000)
        ours.settle(store)
        ours.require_codes(store)
        yield from self.against_flat(store, rows, queries, f"grown by appends, clusters {shape(rows)}", 12)

    def segments(self) -> Iterator[Row]:
        """A segment ends at 256 MiB of log, too: long ids bring that about where `open` cannot be told."""
        rows, queries = self.data.clusters(1_000_000, 128)
        one = ours.optimized(self.path(), rows)
        try:
            ten = ours.create(self.path(), rows.shape[1], segment_records=len(rows) // 10)
            ours.add(ten, rows, 0, len(rows))
        except ours.MissingError:
            ten = ours.create(self.path(), rows.shape[1])
            for at in range(0, len(rows), 2_000):
                ids = [f"{row:02660}" for row in range(at, min(at + 2_000, len(rows)))]
                ten.put_many(ids, rows[at : at + 2_000])
            ten.flush()
        ours.settle(ten)
        ours.optimize(ten)
        counts = [store.stats()["segments"] for store in (one, ten)]
        if counts[1] == counts[0] and not self.data.quick:
            raise ours.MissingError(f"both stores have {counts[0]} segments")
        theirs, our = turns(*(cpu_rate(searching(store), queries) for store in (one, ten)), most=ROUNDS)
        figure = f"{counts[1]} segments of clusters {shape(rows)}"
        about = {"one": ours.about(one, queries[0]), "ten": ours.about(ten, queries[0])}
        yield compared(figure, 0.8, theirs, our, peer=f"{counts[0]} segment", about=about)

    def beside(self) -> Iterator[Row]:
        """Wall time on two cores, in a store that builds its codes meanwhile, and in one that does not."""
        rows, _ = self.data.clusters(100_000, 768)
        rows = np.array(rows)
        rounds = [self.written(rows, automatic) for _ in range(ROUNDS) for automatic in (False, True)]
        without, building = rounds[::2], rounds[1::2]
        idle, busy = (median(one["cores"]["get"] for one in side) for side in (without, building))
        if busy < idle + 0.05 and not self.data.quick:
            raise ours.MissingError("the background was idle beside the gets")
        for what, unit in (("bulk load", "MB/s"), ("get", "/s"), ("put", "/s")):
            theirs, our = ([one[what] for one in side] for side in (without, building))
            cores = [[one["cores"][what] for one in side] for side in (without, building)]
            row = compared(f"{what} while codes are built", 0.9, theirs, our, peer="without", about={"cores": cores})
            row.unit = unit
            yield row

    def written(self, rows: np.ndarray, automatic: bool) -> dict:
        """Rates of a store that has had 40 % of the rows, which is where it begins to build codes, if it does; and how
        many cores the process used meanwhile."""
        path = self.path()
        store, first = ours.create(path, rows.shape[1], automatic=automatic, threads=2), len(rows) * 4 // 10
        ours.add(store, rows, 0, first)
        if automatic:
            ours.await_work()
        found = {"cores": {}}

        def measure(what: str, call: Rate):
            wall, cpu = time.perf_counter(), time.process_time()
            found[what] = call()
            found["cores"][what] = (time.process_time() - cpu) / (time.perf_counter() - wall)

        ids = np.random.default_rng(4).integers(first, size=300_000).tolist()
        new = range(len(rows), len(rows) + len(rows) // 2)

        def put():
            for id in new:
                store.put(id, rows[id - len(rows)])
            store.flush()

        measure("get", lambda: rate(store.get, ids))
        megabytes = rows[first:].nbytes / 1e6
        measure("bulk load", lambda: megabytes / timed(lambda: ours.add(store, rows, first, len(rows), batch=5000)))
        measure("put", lambda: len(new) / timed(put))
        store.close()
        shutil.rmtree(path)
        return found

    def fresh(self) -> Iterator[Row]:
        """A row that was put is the nearest to itself in the next search, at each stage of a store."""
        rows, _ = self.data.clusters(100_000, 768)
        store, dim = ours.create(self.path(), rows.shape[1], automatic=True), rows.shape[1]
        random, tried, found = np.random.default_rng(5), 0, 0

        def put(times: int) -> None:
            nonlocal tried, found
            for _ in range(times):
                tried += 1
                store.put(1_000_000 + tried, vector := random.standard_normal(dim, np.float32))
                found += store.search(vector, 1).ids[0] == 1_000_000 + tried

        put(100)
        ours.add(store, rows, 0, len(rows) * 15 // 100)
        put(100)
        for at in range(len(rows) * 15 // 100, len(rows), len(rows) // 20):  # the background builds meanwhile
            ours.add(store, rows, at, min(at + len(rows) // 20, len(rows)))
            put(20)
        ours.settle(store)
        put(100)
        ours.optimize(store)
        put(100)
        yield Row("found by the next search", "of puts", found / tried, 1.0, 1.0, tried, peer="all", scaled=False)

    def sizes(self) -> Iterator[Row]:
        """For the plot: queries/s by size, exact and at a recall of 0.95; hnswlib, up to 100,000 rows, at 0.95, too."""
        for name, (rows, queries), counts in (
            ("clusters x 128", self.data.clusters(1_000_000, 128), (10_000, 30_000, 100_000, 300_000, 1_000_000)),
            ("MiniLM x 384", self.data.real(), (10_000, 30_000, 100_000)),
        ):
            for count in counts:
                if count <= len(rows):
                    yield from self.size(name, rows[:count], queries)

    def size(self, name: str, rows: np.ndarray, queries: np.ndarray) -> Iterator[Row]:
        path = self.path()
        store = ours.optimized(path, rows)
        searches = {"vecstone, exact": searching(store), "vecstone, 0.95": searching(store, recall_target=0.95)}
        searches |= {"FAISS Flat": Flat(rows).search, "NumPy": NumPy(rows).search}
        about = {"data": name, "rows": len(rows)}
        if len(rows) <= 100_000:
            searches["hnswlib"], about["ef"], about["recall"] = self.hnsw(rows, queries)
        sides = [cpu_rate(search, queries) for search in searches.values()]
        for peer, rounds in zip(searches, turns(*sides, most=ROUNDS)):
            yield Row(f"{name}, {len(rows):,} rows", "/s", median(rounds), peer=peer, about=about)
        store.close()
        shutil.rmtree(path)

    def hnsw(self, rows: np.ndarray, queries: np.ndarray) -> tuple[Callable, int, float]:
        """hnswlib with the least of some efforts that finds 0.95 of the nearest; the effort; what it finds."""
        peer = Hnsw(rows)
        for ef in (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448):
            peer.index.set_ef(ef)
            if (found := recall(peer.search, rows, queries[:200])) >= 0.95:
                break
        return peer.search, ef, found
