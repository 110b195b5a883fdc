"""Approximate peers, each through its own calls and on one thread, for the curves of recall against queries/s.

Each class is made of rows in a folder of its own; `efforts` are what `search` takes, from little to much.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import faiss
import numpy as np

from bench.search.peers import FaissHnsw, Hnsw, K

OF_GRAPHS = (12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class HnswCurve(Hnsw):
    efforts: Iterable = OF_GRAPHS

    def __init__(self, rows: np.ndarray, _: Path):
        super().__init__(rows)


class FaissHnswCurve(FaissHnsw):
    efforts: Iterable = OF_GRAPHS

    def __init__(self, rows: np.ndarray, _: Path):
        super().__init__(rows)


class FaissFastScan:
    """IVF with codes of 4 bits for each 4 components, and the best of ten times as many by their rows."""

    name = "FAISS IVF FastScan"
    efforts: Iterable = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)

    def __init__(self, rows: np.ndarray, _: Path):
        faiss.omp_set_num_threads(1)
        dim = rows.shape[1]
        self.index = faiss.index_factory(dim, f"IVF512,PQ{dim // 2}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT)
        self.index.train(np.array(rows[:: max(1, len(rows) // 40_000)]))
        self.index.add(np.array(rows))
        self.index.k_factor = 10

    def set_effort(self, probes: int) -> None:
        faiss.extract_index_ivf(self.index.base_index).nprobe = probes

    def search(self, query: np.ndarray) -> np.ndarray:
        return self.index.search(query[None], K)[1][0]


class USearch:
    name = "USearch"
    efforts: Iterable = OF_GRAPHS

    def __init__(self, rows: np.ndarray, _: Path):
        from usearch.index import Index

        self.index = Index(ndim=rows.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=128)
        self.index.add(np.arange(len(rows)), np.array(rows), threads=1)

    def set_effort(self, ef: int) -> None:
        self.index.expansion_search = ef

    def search(self, query: np.ndarray) -> np.ndarray:
        return self.index.search(query, K, threads=1).keys


class Zvec:
    name = "zvec"
    efforts: Iterable = OF_GRAPHS

    def __init__(self, rows: np.ndarray, place: Path):
        import zvec

        self.zvec = zvec
        zvec.init(query_threads=1, optimize_threads=1, log_level=zvec.LogLevel.ERROR)
        graph = zvec.HnswIndexParam(metric_type=zvec.MetricType.IP, m=16, ef_construction=128)
        vector = zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, rows.shape[1], index_param=graph)
        self.rows = zvec.create_and_open(str(place / "zvec"), zvec.CollectionSchema(name="rows", vectors=vector))
        for at in range(0, len(rows), 1000):
            docs = [zvec.Doc(id=str(at + n), vectors={"vector": row}) for n, row in enumerate(rows[at : at + 1000])]
            self.rows.insert(docs)
        self.rows.optimize()

    def set_effort(self, ef: int) -> None:
        self.param = self.zvec.HnswQueryParam(ef=ef)

    def search(self, query: np.ndarray) -> np.ndarray:
        query = self.zvec.Query(field_name="vector", vector=query, param=self.param)
        return np.array([int(doc.id) for doc in self.rows.query(query, topk=K)])


class TurboVec:
    """Codes of 4 bits of all rows; the best of them are measured by their rows."""

    name = "turbovec, re-ranked"
    efforts: Iterable = (10, 12, 16, 24, 40, 80)

    def __init__(self, rows: np.ndarray, _: Path):
        from turbovec import TurboQuantIndex

        self.rows, self.index = np.array(rows), TurboQuantIndex(dim=rows.shape[1], bit_width=4)
        self.index.add(self.rows)
        self.index.prepare()

    def set_effort(self, some: int) -> None:
        self.some = some

    def search(self, query: np.ndarray) -> np.ndarray:
        found = np.asarray(self.index.search(query[None], self.some)[1][0], np.int64)
        return found[np.argsort(-(self.rows[found] @ query))[:K]]


class LanceDb:
    """IVF_RQ, refined by rows."""

    name = "LanceDB"
    efforts: Iterable = ((4, 4), (8, 8), (16, 8), (32, 10), (64, 16))

    def __init__(self, rows: np.ndarray, place: Path):
        os.environ |= {"LANCE_CPU_THREADS": "1", "TOKIO_WORKER_THREADS": "1"}
        import lancedb
        import pyarrow as pa

        lists = pa.FixedSizeListArray.from_arrays(pa.array(np.array(rows).ravel()), rows.shape[1])
        table = pa.table({"id": pa.array(np.arange(len(rows))), "vector": lists})
        self.table = lancedb.connect(place / "lance").create_table("rows", table)
        self.table.create_index(metric="dot", index_type="IVF_RQ", num_partitions=256)

    def set_effort(self, effort: tuple[int, int]) -> None:
        self.probes, self.refine = effort

    def search(self, query: np.ndarray) -> np.ndarray:
        search = self.table.search(query).distance_type("dot").nprobes(self.probes).refine_factor(self.refine)
        return search.limit(K).select(["id", "_distance"]).to_arrow()["id"].to_numpy()


ALL = (HnswCurve, FaissHnswCurve, FaissFastScan, USearch, Zvec, TurboVec, LanceDb)
