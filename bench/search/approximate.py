"""The measurements of approximate search, and of what holds for it: each in a process of its own, as in rows.py."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import vecstone

from bench.measure import rate, turns
from bench.search import ours
from bench.search.data import Data
from bench.search.peers import FaissHnsw, Hnsw, K, kth_distances, recall, share_found
from bench.search.rows import MANY, ROUNDS, Bench, Row, compared, cpu_rate, searching, shape

ROOT = Path(__file__).resolve().parent.parent.parent
EFFORTS = (10, 14, 20, 28, 36, 44, 52, 60, 70, 80, 95, 110, 130, 160, 200, 260, 350, 500, 800, 1600)  # of graphs
ASKED = 0.95
OF_RECALL = {"peer": "asked for", "scaled": False}


class All(Bench):
    """The rows of exact search, and those of approximate search."""

    def approximate(self) -> Iterator[Row]:
        """Against the best graph library at the recall that our search turns out to have."""
        rows, queries = self.data.real()
        targets = {0.95: 1.3, 0.97: 1.4, 0.99: 1.8}
        yield from self.against_graphs(f"MiniLM {shape(rows)}", rows, queries, targets, (Hnsw, FaissHnsw))

    def approximate_clusters(self) -> Iterator[Row]:
        rows, queries = self.data.clusters(100_000, 768)
        yield from self.against_graphs(f"clusters {shape(rows)}", rows, queries, {0.99: 2.0}, (FaissHnsw,))

    def against_graphs(self, name: str, rows, queries, targets: dict[float, float], peers) -> Iterator[Row]:
        store, graphs = ours.optimized(self.path(), rows), [peer(rows) for peer in peers]
        some = queries[:500]
        for target, ratio in targets.items():
            search = searching(store, recall_target=target)
            found = recall(lambda query: search(query).ids, rows, some)
            yield Row(f"recall of {target} asked for, {name}", "", found, target, 1.0, peer="asked for", scaled=False)
            # Each with the least effort that finds as much.
            for graph in graphs:
                next(ef for ef in EFFORTS if self.reaches(graph, ef, rows, some, found))
            sides = [cpu_rate(side, queries) for side in (search, *(graph.search for graph in graphs))]
            our, *theirs = turns(*sides, most=ROUNDS)
            best = max(range(len(graphs)), key=lambda n: median(theirs[n]))
            told = {"asked": target, "recall": found} | ours.about(store, queries[0])
            told["graphs"] = {graph.name: median(one) for graph, one in zip(graphs, theirs)}
            figure = f"recall {found:.3f}, {name}"
            yield compared(figure, ratio, theirs[best], our, peer=graphs[best].name, about=told)

    def reaches(self, graph, ef: int, rows, queries, least: float) -> bool:
        graph.set_effort(ef)
        return ef == EFFORTS[-1] or recall(graph.search, rows, queries) >= least

    def filters(self) -> Iterator[Row]:
        """Many queries with one filter, as it is found out once for a call which rows it selects; against the same call
        without."""
        rows, queries = self.data.real()
        store, random = ours.optimized(self.path(), rows), np.random.default_rng(6)
        near = np.argsort(-(np.array(rows) @ rows[random.integers(len(rows))]))
        filters = {f"{share:.0%} at random": random.permutation(len(rows))[: int(len(rows) * share)] for share in
                   (0.5, 0.1, 0.01)}
        filters["10% around a row"] = near[: len(rows) // 10]
        for name, allowed in filters.items():
            ids = np.sort(allowed).astype(np.uint64)
            yield from self.filtered(store, f"filter of {name}, MiniLM {shape(rows)}", (rows, queries), ids)

    def filtered(self, store, figure: str, data, ids: np.ndarray) -> Iterator[Row]:
        (rows, queries), number = data, np.full(len(data[0]), -1)
        number[ids] = np.arange(len(ids))
        search = partial(searching(store, recall_target=ASKED, filter=ids))
        found = recall(lambda query: number[search(query).ids], rows[ids], queries[:200])
        yield Row(f"recall, {figure}", "", found, ASKED, 1.0, **OF_RECALL)
        sides = [many_rate(store, queries), many_rate(store, queries, filter=ids)]
        theirs, our = turns(*sides, most=ROUNDS)
        told = store.search(queries[0], K, recall_target=ASKED, filter=ids, explain=True).explain
        yield compared(figure, 0.5, theirs, our, peer="without a filter", about={"explain": told})
        one = turns(cpu_rate(search, queries), most=ROUNDS)[0]
        yield Row(f"one query a call, {figure}", "/s", median(one), peer="", about={"explain": told})

    def deletes(self) -> Iterator[Row]:
        """Half of the rows deleted, then half of them put anew; what the background does counts, `optimize` is not called."""
        rows, queries = self.data.real()
        before = ours.optimized(self.path(), rows)
        path, random = self.path(), np.random.default_rng(7)
        ours.optimized(path, rows, automatic=True).close()
        dead = random.permutation(len(rows))[: len(rows) // 2].astype(np.uint64)
        again = np.sort(dead[: len(dead) // 2])
        with vecstone.open(path, threads=1) as store:
            store.delete_many(dead)
            ours.settle(store)
            store.put_many(again, np.array(rows[again]))
            store.flush()
            ours.settle(store)
            live = np.setdiff1d(np.arange(len(rows)), dead[len(dead) // 2 :])
            number = np.full(len(rows), -1)
            number[live] = np.arange(len(live))
            sides = [searching(one, recall_target=ASKED) for one in (before, store)]
            found = recall(lambda query: number[sides[1](query).ids], rows[live], queries[:200])
            figure = f"half deleted, half of these anew, MiniLM {shape(rows)}"
            yield Row(f"recall, {figure}", "", found, ASKED, 1.0, **OF_RECALL)
            theirs, our = turns(*(cpu_rate(side, queries) for side in sides), most=ROUNDS)
            yield compared(figure, 0.6, theirs, our, peer="before", about=self.told(store, queries))

    def told(self, store, queries) -> dict:
        told = ours.about(store, queries[0])
        return told | {"explain": store.search(queries[0], K, recall_target=ASKED, explain=True).explain}

    def approximate_threads(self) -> Iterator[Row]:
        """Many queries at once on two threads: one of them is done on one."""
        rows, queries = self.data.real()
        queries = np.ascontiguousarray(queries[:MANY])

        def search(store):
            return lambda _: store.search_many(queries, K, recall_target=ASKED)

        name = f"{MANY} at once at {ASKED}, MiniLM"
        yield from self.two_threads(name, ours.optimized, rows, [None] * 20, search)

    def python(self) -> Iterator[Row]:
        """Of a call from Python the part that the library says it took itself."""
        rows, queries = self.data.real()
        store = ours.optimized(self.path(), rows)

        def within() -> float:
            told = [store.search(query, K, recall_target=ASKED, explain=True).explain for query in queries]
            return len(told) / sum(sum(one["seconds"].values()) for one in told)

        theirs, our = turns(within, partial(rate, searching(store, recall_target=ASKED), list(queries)), most=2 * ROUNDS)
        figure = f"from Python, {ASKED}, MiniLM {shape(rows)}"
        yield compared(figure, 0.95, theirs, our, peer="the stages in Rust")

    def opening(self) -> Iterator[Row]:
        """To the first approximate search, each in a process of its own; pages are in memory."""
        rows, queries = self.data.clusters(1_000_000, 128)
        path, query = self.path(), self.place / "query.npy"
        ours.optimized(path, rows).close()
        np.save(query, queries[:1])
        figures = []
        for _ in range(2 * ROUNDS + 1):
            command = [sys.executable, "-m", "bench.search.approximate", str(path), str(query)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            figures.append(json.loads(done.stdout))
        for what, unit, limit in (("time", "ms", 5), ("memory", "MB", 5), ("heap", "MB", 5)):
            values = [one[what] for one in figures[1:]]
            figure = f"{what} of open and a first search, {shape(rows)}"
            yield Row(figure, unit, median(values), limit, 1.0, peer="set by the project", rounds={"ours": values})

    def sides(self) -> Iterator[Row]:
        """Side files of raw, by dimension."""
        sets = {0.25: partial(self.data.clusters, 100_000, 768), 0.27: self.data.real,
                0.36: partial(self.data.clusters, 1_000_000, 128)}
        for limit, make in sets.items():
            rows, _ = make()
            store = ours.optimized(self.path(), rows)
            share = ours.side_bytes(store) / rows.nbytes
            peer = "set by the project"
            yield Row(f"side files, {shape(rows)}", "of raw", share, limit, 1.0, peer=peer, scaled=False)
            store.close()

    def tenfold(self) -> Iterator[Row]:
        """Queries/s by ten times the rows, divided by 5 at most."""
        real, (large, of_large) = self.data.real(), self.data.clusters(1_000_000, 128)
        for name, rows, queries in (("MiniLM", *real), ("clusters", large, of_large)):
            few = rows[: len(rows) // 10]
            stores = [ours.optimized(self.path(), some) for some in (few, rows)]
            searches = [searching(store, recall_target=ASKED) for store in stores]
            found = recall(lambda query: searches[1](query).ids, rows, queries[:100])
            figure = f"{len(few):,} to {shape(rows)}, {name}"
            yield Row(f"recall, {figure}", "", found, ASKED, 1.0, **OF_RECALL)
            theirs, our = turns(*(cpu_rate(search, queries) for search in searches), most=ROUNDS)
            yield compared(figure, 0.2, theirs, our, peer="a tenth of the rows", about=self.told(stores[1], queries))

    def curves(self) -> Iterator[Row]:
        """For the plot: recall against queries/s, of ours by the recall asked for, of peers by their own efforts."""
        from bench.search.graphs import ALL

        sets = {"MiniLM": self.data.real, "clusters": partial(self.data.clusters, 100_000, 768)}
        for name, make in sets.items():
            rows, queries = make()
            tenth = kth_distances(rows, queries)
            about = {"data": f"{name} {shape(rows)}"}
            store = ours.optimized(self.path(), rows)
            for asked in (0.9, 0.95, 0.97, 0.99, 1.0):
                search = searching(store, recall_target=asked)
                yield self.point(lambda query: search(query).ids, queries, tenth, "vecstone", about | {"effort": asked})
            for Peer in ALL:
                place = self.path()
                place.mkdir()
                start = time.process_time()
                peer = Peer(rows, place)
                about["build"] = time.process_time() - start
                for effort in peer.efforts:
                    peer.set_effort(effort)
                    yield self.point(peer.search, queries, tenth, peer.name, about | {"effort": effort})

    def point(self, search: Callable, queries, tenth, name: str, about: dict) -> Row:
        found = share_found(search, queries, tenth)
        rounds = turns(cpu_rate(search, queries), most=3)[0]
        figure = f"{name}, {about['effort']}, {about['data']}"
        return Row(figure, "/s", median(rounds), peer=name, about=about | {"recall": found}, rounds={"ours": rounds})


def many_rate(store: vecstone.Store, queries: np.ndarray, **options) -> Callable[[], float]:
    """Queries a second of CPU, all in one call."""
    queries = np.ascontiguousarray(queries)

    def search(_):
        store.search_many(queries, K, recall_target=ASKED, **options)

    return lambda: len(queries) * rate(search, [None] * 3, clock=time.process_time)


def anonymous() -> float:
    """MB of memory that no file stands behind."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:")) / 1e3


def first_search(path: str, query: str) -> dict:
    """Milliseconds from `open` to the answer; MB that the process grew by, and that the store says it has."""
    vector, memory, start = np.load(query)[0], anonymous(), time.perf_counter()
    with vecstone.open(path, mode="r", threads=1) as store:
        found = store.search(vector, K, recall_target=ASKED, explain=True)
        took = (time.perf_counter() - start) * 1e3
        if found.explain["path"] != "approximate":
            raise ours.MissingError("the search was exact")
        return {"time": took, "memory": anonymous() - memory, "heap": store.stats()["memory"]["heap"] / 1e6}


CORES = {"threads": 2, "beside": 2, "approximate_threads": 2}  # one, if not named
NAMES = [
    *("plain", "clusters", "real", "noise", "many", "threads", "filter", "build", "grown"),
    *("segments", "beside", "fresh", "million", "approximate", "approximate_clusters"),
    *("filters", "deletes", "approximate_threads", "python", "opening", "sides", "tenfold", "sizes", "curves"),
]


def measure(name: str, data: Data, place: Path, core: int) -> Iterator[Row]:
    """The figures of one row of the table, on its cores, this one first."""
    cores = sorted(os.sched_getaffinity(0), key=lambda it: (it != core, it))[: CORES.get(name, 1)]
    os.sched_setaffinity(0, cores)
    for row in getattr(All(data, place), name)():
        row.row = name
        yield row


if __name__ == "__main__":
    print(json.dumps(first_search(*sys.argv[1:])))
